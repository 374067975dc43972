"""Lower levels: the same pixels from every reader, at every position, also for odd level sizes."""

import cv2
import numpy as np
import openslide
import pytest
import tifffile

from mcti.slides import probe
from mcti.slides.reader import is_whole
from mcti.slides.tiles import Grid, TileSource, sharpness
from mcti.slides.tissue import best_level

from .conftest import texture

OPTIONS = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}


def pyramid(path, width, height, levels):
    """Noise on a texture, each level half the one before without the odd row and column, as scanners do."""
    rng = np.random.default_rng(0)
    picture = texture(height, width)
    picture = np.clip(picture.astype(np.int16) + rng.integers(-60, 60, picture.shape), 0, 255).astype(np.uint8)
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            resolution = {"resolution": (20000 / 2**level, 20000 / 2**level), "resolutionunit": "CENTIMETER"}
            writer.write(picture, subfiletype=1 if level else 0, **OPTIONS, **resolution)
            size = (picture.shape[1] // 2, picture.shape[0] // 2)
            even = picture[: size[1] * 2, : size[0] * 2]
            picture = cv2.resize(even, size, interpolation=cv2.INTER_AREA)
    return path


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Levels of 4101 x 3003, 2050 x 1501 and 1025 x 750 px: downsamples 2.0006 and 4.0025."""
    return pyramid(tmp_path_factory.mktemp("odd") / "odd.tif", 4101, 3003, 3)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A level of 4150 x 300 px, too large for one piece in OpenSlide, of 8301 x 601 px (downsample 2.0018)."""
    return pyramid(tmp_path_factory.mktemp("wide") / "wide.tif", 8301, 601, 2)


def test_every_reader_gives_the_same_pixels_of_every_level_of_odd_size(odd):
    rng = np.random.default_rng(1)
    with probe.open_reader(odd, "tiff") as actual, probe.open_reader(odd, "openslide") as expected:
        assert actual.levels == expected.levels
        for i, level in enumerate(actual.levels):
            for x, y in rng.integers((-50, -50), (level.width, level.height), (40, 2)).tolist():
                np.testing.assert_array_equal(actual.read(i, x, y, 150, 90), expected.read(i, x, y, 150, 90))


def test_sharpness_does_not_depend_on_the_position(odd):
    """Oracle: OpenSlide's region at x = 1024 has half the variance of that at x = 0."""
    with probe.open_reader(odd, "tiff") as actual, probe.open_reader(odd, "openslide") as expected:
        for x in (0, 511, 1024, 1700):
            assert sharpness(expected.read(1, x, 512, 256, 256)) == sharpness(actual.read(1, x, 512, 256, 256))
        exact = sharpness(expected.read(1, 1024, 512, 256, 256))
    with openslide.OpenSlide(odd) as slide:
        blended = sharpness(np.asarray(slide.read_region((2049, 1025), 1, (256, 256)))[:, :, :3])
    assert blended < 0.7 * exact


@pytest.mark.parametrize("resolution", [1.1, 1.3])  # at 1.0 the direct reader decodes JPEG small (test_reader.py)
def test_tiles_are_the_same_from_every_reader(odd, wide, resolution):
    for path in (odd, wide):
        tiles = []
        for name in ("tiff", "openslide"):
            info = probe.examine(path, choice=name)
            with probe.open_reader(path, name) as reader:
                grid = Grid.for_slide(info.width, info.height, info.mpp, resolution, 128)
                source = TileSource(reader, grid)
                tiles.append(np.stack([source.read(x, y) for x, y in grid.corners()[::7].tolist()]))
        np.testing.assert_array_equal(tiles[0], tiles[1])


def test_a_level_that_openslide_blends_is_not_used_for_tiles(wide):
    for name in ("tiff", "openslide"):
        with probe.open_reader(wide, name) as reader:
            assert [level.exact for level in reader.levels] == [True, False]
            assert best_level(reader, 2.0) == 1  # sufficient for the overview
            assert best_level(reader, 2.0, exact=True) == 0


@pytest.mark.parametrize(
    ("downsample", "edge", "whole"),
    [(4.0, 100_000, True), (4.00000001, 1000, True), (2.0005, 2050, False), (4.00012, 8228, False)],
)
def test_with_a_whole_downsample_all_pixels_are_whole_level_0_pixels(downsample, edge, whole):
    assert is_whole(downsample, edge) is whole


def test_a_small_level_with_a_broken_tile_is_read_from_the_finer_one(odd, tmp_path):
    path = tmp_path / "broken.tif"
    data = bytearray(odd.read_bytes())
    with tifffile.TiffFile(odd) as file:
        page = file.pages[1]
        offset, count = page.dataoffsets[2], page.databytecounts[2]
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with probe.open_reader(path, "openslide") as reader, probe.open_reader(odd, "openslide") as whole:
        region = reader.read(1, 300, 300, 200, 200).astype(int)
        np.testing.assert_allclose(region, whole.read(1, 300, 300, 200, 200), atol=60)
        assert np.abs(region - whole.read(1, 300, 300, 200, 200)).mean() < 10  # half a pixel off: above 20
