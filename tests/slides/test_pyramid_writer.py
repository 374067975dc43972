"""The pyramid writer: levels, resolution and pixels as OpenSlide reads them, equal bytes for equal arguments."""

import numpy as np
import openslide

from mcti.slides.pyramid_writer import write_pyramid

from .conftest import texture


def test_openslide_reads_levels_resolution_and_pixels(tmp_path):
    picture = texture(512, 768)
    write_pyramid(tmp_path / "a.tif", picture, mpp=0.25, levels=2)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_dimensions == ((768, 512), (384, 256))
        assert slide.properties["openslide.mpp-x"] == "0.25"
        pixels = np.asarray(slide.read_region((0, 0), 0, (768, 512)))[:, :, :3]
    assert np.abs(pixels.astype(int) - picture).mean() < 3  # JPEG


def test_equal_arguments_give_equal_bytes(tmp_path):
    for name in "ab":
        write_pyramid(tmp_path / name, texture(256, 256))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
