"""Images of tiles: the right region of the right slide, or the reason."""

import base64
import io

import h5py
import numpy as np
import pytest
from PIL import Image

from mcti.slides.tile_images import TileImages
from tests.slides.conftest import write_tiff

COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))


@pytest.fixture
def folder(tmp_path):
    """A slide of four quadrants of 256 px, one colour each, and its feature file."""
    quadrants = [np.full((256, 256, 3), colour, np.uint8) for colour in COLOURS]
    picture = np.vstack([np.hstack(quadrants[:2]), np.hstack(quadrants[2:])])
    (tmp_path / "slides").mkdir()
    write_tiff(tmp_path / "slides" / "A.tif", picture)
    store(tmp_path / "A.h5", level0_width=512, level0_height=512)
    return tmp_path


def store(path, **grid):
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((4, 3), np.float32)
        file["coords"] = np.zeros((4, 2), np.int64)
        file["coords"].attrs.update({"patch_size_level0": 256, **grid})


def test_an_image_shows_the_tile_at_its_corner(folder):
    corners = [(0, 0), (256, 0), (0, 256), (256, 256), (128, 0)]
    images = TileImages(folder / "slides", folder).read_tiles("A", corners)
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(c.address.partition(",")[2])))) for c in images]
    assert {picture.shape for picture in pictures} == {(128, 128, 3)}
    for picture, colour in zip(pictures[:4], COLOURS, strict=True):
        np.testing.assert_allclose(picture.mean(axis=(0, 1)), colour, atol=4)  # JPEG
    np.testing.assert_allclose(pictures[4].mean(axis=(0, 1)), np.mean(COLOURS[:2], axis=0), atol=4)  # half of each


def test_a_missing_image_has_a_reason(folder):
    slides = TileImages(folder / "slides", folder)
    assert slides.read_tiles("B", [(0, 0)])[0].missing == "not in the list of slides"
    store(folder / "A.h5", level0_width=4000, level0_height=3000)
    assert slides.read_tiles("A", [(0, 0)])[0].missing == "features of a slide of 4000x3000 px, this one has 512x512"
    (folder / "slides" / "A.tif").write_bytes((folder / "slides" / "A.tif").read_bytes()[:900])
    assert [crop.address for crop in slides.read_tiles("A", [(0, 0), (256, 0)])] == ["", ""]
    (folder / "slides" / "A.tif").unlink()
    assert "no file at this path" in slides.read_tiles("A", [(0, 0)])[0].missing


def test_a_table_without_slide_files_and_a_missing_table_give_reasons(folder):
    """Ready-made features: no slide has a file. The images of the other slides are read."""
    rows = "patient_id,slide_id,path\nP,A,slides/A.tif\nP,B,\n"
    (folder / "slides.csv").write_text(rows)
    images = TileImages(folder / "slides.csv", folder)
    assert images.read_tiles("B", [(0, 0)])[0].missing == "the table names no slide file"
    assert images.read_tiles("A", [(0, 0)])[0].address
    (folder / "slides.csv").write_text("patient_id,slide_id\nP,A\n")
    assert TileImages(folder / "slides.csv", folder).read_tiles("A", [(0, 0)])[0].missing == (
        "the table names no slide file"
    )
    assert TileImages(folder / "missing.csv", folder).read_tiles("A", [(0, 0)])[0].missing


def test_an_unexpected_fault_of_a_reader_is_a_reason(folder, monkeypatch):
    def fail(*_arguments, **_options):
        raise ValueError("a broken directory")

    monkeypatch.setattr("mcti.slides.probe.examine", fail)
    image = TileImages(folder / "slides", folder).read_tiles("A", [(0, 0)])[0]
    assert image.missing == "ValueError: a broken directory"
