"""Readers: the pixels are those of OpenSlide, and a broken tile affects no other."""

import numpy as np
import openslide
import pytest
import tifffile

from mcti.slides import probe
from mcti.slides.flat_reader import FlatReader
from mcti.slides.openslide_reader import OpenSlideReader
from mcti.slides.reader import on_white
from mcti.slides.status import RegionError

from .conftest import texture, write_tiff


def compare(path, mpp, regions, seed):
    info = probe.examine(path, mpp=mpp)
    rng = np.random.default_rng(seed)
    boxes = rng.integers((-40, -40, 1, 1), (info.width, info.height, 200, 200), (regions, 4))
    boxes = boxes[np.lexsort((boxes[:, 0], boxes[:, 1] // 256))]  # row by row, so that both readers use their caches
    with probe.open_reader(path, "tiff") as actual, openslide.OpenSlide(path) as reference:
        for x, y, width, height in boxes.tolist():
            expected = on_white(np.asarray(reference.read_region((x, y), 0, (width, height))))
            np.testing.assert_array_equal(actual.read(0, x, y, width, height), expected)
        for level in range(1, len(actual.levels)):
            size = actual.levels[level].width, actual.levels[level].height
            expected = on_white(np.asarray(reference.read_region((0, 0), level, size)))
            np.testing.assert_array_equal(actual.read(level, 0, 0, *size), expected)


def test_random_regions_of_real_slides_are_those_of_openslide(cmu, tcga):
    compare(cmu, None, 150, 0)
    compare(tcga, 0.5, 60, 1)


@pytest.mark.slow
def test_two_thousand_regions_of_each_real_slide_are_those_of_openslide(cmu, tcga):
    compare(cmu, None, 2000, 2)
    compare(tcga, 0.5, 2000, 3)


def test_levels_of_a_painted_slide_are_those_of_openslide(painted):
    compare(painted, None, 40, 4)


def test_a_broken_tile_is_an_error_only_for_its_region(painted):
    with tifffile.TiffFile(painted) as file:
        offset, count = file.pages[0].dataoffsets[9], file.pages[0].databytecounts[9]
    data = bytearray(painted.read_bytes())
    data[offset + 2 : offset + count] = bytes(count - 2)
    painted.write_bytes(data)
    with probe.open_reader(painted, "tiff") as reader:
        for _ in range(2):  # the second time from the cache
            with pytest.raises(RegionError):
                reader.read(0, 256, 256, 10, 10)
            with pytest.raises(RegionError):
                reader.read(0, 256, 256, 256, 256, shrink=2)
        assert reader.read(0, 512, 256, 256, 256).std() > 1


def without_first_tile(path, picture, level):
    """A pyramid of two levels, the first tile of one of which has length 0."""
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, tile=(64, 64), photometric="rgb", resolution=(20000, 20000), resolutionunit=3)
        writer.write(picture[::2, ::2], tile=(64, 64), photometric="rgb", subfiletype=1)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[level].tags["TileByteCounts"]
        data_type, offset = tag.dtype, tag.valueoffset
    data = bytearray(path.read_bytes())
    size = {3: 2, 4: 4}[int(data_type)]
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_a_tile_of_length_0_is_glass_as_in_openslide(tmp_path):
    path = without_first_tile(tmp_path / "a.tif", texture(256, 256), level=0)
    with probe.open_reader(path, "tiff") as actual, openslide.OpenSlide(path) as reference:
        region = actual.read(0, 10, 10, 100, 100)
        np.testing.assert_array_equal(region, on_white(np.asarray(reference.read_region((10, 10), 0, (100, 100)))))
    assert (region[:54, :54] == 255).all()
    assert (region[60:, 60:] < 255).any()


def test_a_missing_tile_of_a_lower_level_is_filled_from_the_finer_level(tmp_path):
    """Aperio leaves tiles of length 0 on lower levels."""
    picture = texture(256, 256)
    path = without_first_tile(tmp_path / "a.tif", picture, level=1)
    with probe.open_reader(path, "tiff") as reader:
        hole = reader.read(1, 0, 0, 64, 64)
    expected = picture[:128, :128].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(hole, expected, atol=1)  # rounding of the area mean


def test_a_slide_decoded_at_half_its_size_is_the_mean_over_two_by_two_pixels(cmu):
    """Oracle: the mean of OpenSlide's pixels, by numpy. The difference is the rounding of single frequencies."""
    box = (100, 400, 1200, 1600)
    with probe.open_reader(cmu, "tiff") as actual, openslide.OpenSlide(cmu) as reference:
        small = actual.read(0, *box, shrink=2).astype(float)
        full = on_white(np.asarray(reference.read_region(box[:2], 0, box[2:]))).astype(float)
    gap = np.abs(small - full.reshape(800, 2, 600, 2, 3).mean(axis=(1, 3)))
    assert gap.mean() < 0.4  # rounding by at most half a grey level gives 0.25 on average
    assert np.percentile(gap, 99) < 3


@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
def test_every_reader_and_codec_gives_the_same_smaller_region_also_beyond_the_edge(tmp_path, compression):
    path = write_tiff(tmp_path / "a.tif", texture(150, 203), compression=compression)
    for shrink in (2, 4, 8):
        regions = []
        for name in ("tiff", "openslide", "flat"):
            with probe.open_reader(path, name) as reader:
                regions.append(reader.read(0, -16, 64, 240, 96, shrink=shrink).astype(int))
        assert regions[0].shape == (96 // shrink, 240 // shrink, 3)
        inside = np.s_[: 80 // shrink, 24 // shrink : 208 // shrink]  # half a pixel at the edge may be white
        # JPEG stores colours at half the resolution; the small picture needs no upsampling of them.
        assert np.abs(regions[0] - regions[1])[inside].max() <= (6 if compression == "jpeg" else 1)
        np.testing.assert_array_equal(regions[1], regions[2])
        assert (regions[0][:, -16 // shrink :] == 255).all()


def test_the_cache_holds_four_rows_of_a_level_whose_regions_overlap(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(64 * 16, 64 * 8), compression="jpeg")
    with probe.open_reader(path, "tiff") as reader:
        for shrink in (1, 2):
            for y in range(0, 64 * 16, 64):
                reader.read(0, 0, y, 64 * 8, 64, shrink=shrink, keep=True)
            assert 3 * 8 * (64 // shrink) ** 2 * 3 < reader._cache.nbytes <= 4 * 10 * (64 // shrink) ** 2 * 3


@pytest.mark.parametrize("edge", [48, 64, 100, 150])
def test_regions_without_overlap_decode_every_tile_once_and_leave_none_in_the_cache(tmp_path, monkeypatch, edge):
    """The picture ends within a tile, and the last regions end beyond it."""
    path = write_tiff(tmp_path / "a.tif", texture(330, 270), compression="jpeg")
    decoded = []
    with probe.open_reader(path, "tiff") as reader, openslide.OpenSlide(path) as reference:
        decode = reader._decode
        monkeypatch.setattr(reader, "_decode", lambda key, buffer: decoded.append(key) or decode(key, buffer))
        buffer = np.empty((edge, edge, 3), np.uint8)
        for y in range(0, 330, edge):
            for x in range(0, 270, edge):
                region = reader.read(0, x, y, edge, edge, buffer=buffer)
                expected = on_white(np.asarray(reference.read_region((x, y), 0, (edge, edge))))
                np.testing.assert_array_equal(region, expected)
                assert np.shares_memory(region, buffer)
        assert reader._cache.nbytes == 0
    assert sorted(decoded) == [(0, tile, 1) for tile in range(6 * 5)]


def test_a_tile_in_the_memory_of_the_caller_does_not_change_the_cache(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(128, 128), compression="jpeg")
    with probe.open_reader(path, "tiff") as reader:
        buffer = np.empty((64, 64, 3), np.uint8)
        first = reader.read(0, 0, 0, 64, 64, buffer=buffer).copy()
        reader.read(0, 10, 10, 64, 64, buffer=buffer)  # its tiles stay in the cache
        reader.read(0, 64, 0, 64, 64, buffer=buffer)
        np.testing.assert_array_equal(reader.read(0, 0, 0, 64, 64, buffer=buffer), first)


def test_labels_and_macros_are_no_levels(cmu):
    with probe.open_reader(cmu, "tiff") as reader:
        assert [(level.width, level.height) for level in reader.levels] == [(2220, 2967)]


def test_the_reader_can_be_chosen_and_all_readers_agree(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(150, 200), compression="zlib")
    pictures = []
    for name in ("tiff", "openslide", "flat"):
        info = probe.examine(path, mpp=0.5, choice=name)
        assert info.reader == name
        with probe.open_reader(path, name) as reader:
            pictures.append(reader.read(0, -5, -5, 100, 90))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_openslide_reads_again_after_a_failed_read(painted):
    with tifffile.TiffFile(painted) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data = bytearray(painted.read_bytes())
    data[offset : offset + count] = bytes(count)
    painted.write_bytes(data)
    with OpenSlideReader(painted) as reader:
        with pytest.raises(RegionError):
            reader.read(0, 0, 0, 100, 100)
        assert reader.read(0, 512, 512, 100, 100).shape == (100, 100, 3)


def test_a_plain_picture_is_white_outside(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 30, 3), 7, np.uint8))
    region = FlatReader(tmp_path / "a.png").read(0, 25, 15, 10, 10)
    assert region[0, 0].tolist() == [7, 7, 7]
    assert region[-1, -1].tolist() == [255, 255, 255]
