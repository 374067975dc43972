"""The step `heatmap`: the scores of a table over their slide, all files or none."""

import json

import numpy as np
import pandas as pd
import pytest

from mcti.demo import painting
from mcti.errors import DataError
from mcti.params import ExtractParams
from mcti.slides import features
from mcti.slides.hed44 import Hed44Encoder
from mcti.slides.manifest import SlideRow
from mcti.steps.heatmap import heatmap

from ..slides.conftest import extract_one, texture, write_tiff


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A painted slide, its feature file, and a table with one score per tile."""
    folder = tmp_path_factory.mktemp("heatmap")
    painting.paint(folder / "P1.tif", seed=0, grade=2, er_positive=True)
    extract_one(SlideRow("P", "P1", str(folder / "P1.tif")), ExtractParams(), Hed44Encoder(), folder)
    numbers, coords = features.read(folder / "P1.h5")
    table = pd.DataFrame({"x": coords[:, 0], "y": coords[:, 1], "score": numbers[:, 0], "risk": numbers[:, 1]})
    return folder / "P1.tif", folder / "P1.h5", table


def write(table, folder):
    table.to_csv(folder / "scores.csv", index=False)
    return folder / "scores.csv"


def test_every_tile_is_drawn_with_its_score(slide, tmp_path):
    """Oracle for the limits: the percentiles 1 and 99 of the column, by NumPy."""
    path, feature_file, table = slide
    result = heatmap(path, feature_file, write(table, tmp_path), tmp_path / "out", column="risk")
    assert result.tiles == len(table)
    assert (result.low, result.high) == pytest.approx(np.percentile(table["risk"], [1, 99]))
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["heatmap.geojson", "heatmap.ome.tif", "heatmap.png"]
    squares = json.loads((tmp_path / "out" / "heatmap.geojson").read_text())["features"]
    assert [square["properties"]["measurements"]["risk"] for square in squares] == pytest.approx(table["risk"])
    assert [square["geometry"]["coordinates"][0][0] for square in squares] == table[["x", "y"]].to_numpy().tolist()


def test_a_centre_is_the_middle_of_the_scale(slide, tmp_path):
    path, feature_file, table = slide
    result = heatmap(path, feature_file, write(table, tmp_path), tmp_path / "out", centre=0.25)
    assert (result.low + result.high) / 2 == pytest.approx(0.25)


def test_scores_of_another_slide_are_refused_and_nothing_is_written(slide, tmp_path):
    path, feature_file, table = slide
    with pytest.raises(DataError, match=r"scores\.csv, row 2"):
        heatmap(path, feature_file, write(table.assign(x=table["x"] + 1), tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_features_of_another_slide_are_refused(slide, tmp_path):
    _, feature_file, table = slide
    other = write_tiff(tmp_path / "P1.tif", texture(500, 700))
    with pytest.raises(DataError, match="2048x2048 px, this one has 700x500"):
        heatmap(other, feature_file, write(table, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
