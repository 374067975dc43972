"""The step `view`: which layers a slide has, where they come from, and which input is refused.

The pages and tiles of the server are tested in tests/slides/viewer/test_viewer.py, with a browser.
"""

import socket

import numpy as np
import pandas as pd
import pytest

from mcti.demo import painting
from mcti.errors import DataError, OperationalError, UsageError
from mcti.params import ExtractParams
from mcti.slides import feature_store, features
from mcti.slides.hed44 import Hed44Encoder
from mcti.slides.manifest import SlideRow
from mcti.slides.viewer.server import Server
from mcti.steps.view import view

from ..slides.conftest import extract_one, texture, write_tiff


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A painted slide, its feature file, and scores of its tiles."""
    folder = tmp_path_factory.mktemp("view")
    painting.paint(folder / "P1.tif", seed=0, grade=2, er_positive=True)
    extract_one(SlideRow("P", "P1", str(folder / "P1.tif")), ExtractParams(), Hed44Encoder(), folder)
    numbers, coords = features.read(folder / "P1.h5")
    table = pd.DataFrame({"x": coords[:, 0], "y": coords[:, 1], "score": numbers[:, 0]})
    table.to_csv(folder / "scores.csv", index=False)
    return folder / "P1.tif", folder / "P1.h5", folder / "scores.csv"


@pytest.fixture
def scenes(monkeypatch):
    """The scenes that were served; each server is stopped as Ctrl-C stops it."""
    served = []

    def interrupted(server):
        served.append(server.scene)
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    return served


def test_each_input_adds_its_layers(slide, scenes):
    path, feature_file, scores = slide
    addresses = []
    assert view(path, on_ready=addresses.append).layers == ["tissue"]
    assert view(path, feature_file).layers == ["tissue", "tiles"]
    result = view(path, feature_file, scores, centre=0.0)
    assert (result.slide, result.layers) == ("P1", ["tissue", "tiles", "scores"])
    assert addresses[0].startswith("http://127.0.0.1:")
    assert len(scenes) == 3


def test_tiles_and_scores_are_those_of_the_files(slide, scenes):
    path, feature_file, scores = slide
    view(path, feature_file, scores)
    table = pd.read_csv(scores)
    first = table.iloc[0]
    # 256 px at 0.5 µm/px, the resolution of the painted slide
    assert scenes[0].tile_at(first["x"] + 255, first["y"] + 255) == pytest.approx(dict(first))
    np.testing.assert_allclose(scenes[0].scores.values, table["score"])


def test_the_tissue_of_features_without_a_mask_is_not_shown(slide, scenes, tmp_path):
    path, feature_file, _ = slide
    copy = tmp_path / feature_file.name
    copy.write_bytes(feature_file.read_bytes())
    assert feature_store.mask_path(feature_file.parent, "P1").exists()
    assert view(path, copy).layers == ["tiles"]


def test_a_slide_without_tissue_is_shown_without_that_layer(scenes, tmp_path):
    white = write_tiff(tmp_path / "white.tif", np.full((512, 512, 3), 245, np.uint8))
    assert view(white).layers == []


def test_files_of_different_slides_are_refused(slide, tmp_path):
    other = write_tiff(tmp_path / "P1.tif", texture(500, 700))
    with pytest.raises(UsageError, match="scores need the tiles"):
        view(other, scores="a.csv")
    with pytest.raises(DataError, match="2048x2048 px, this one has 700x500"):
        view(other, slide[1])


def test_a_port_in_use_is_refused(slide):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OperationalError, match=f"port {other.getsockname()[1]} cannot be used"):
            view(slide[0], port=other.getsockname()[1])
