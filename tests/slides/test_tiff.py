"""TIFF directories: compared with tifffile, and with damaged or inconsistent files."""

import contextlib
import struct

import numpy as np
import pytest
import tifffile

from mcti.slides import tiff
from mcti.slides.status import SlideError, Status

from .conftest import texture, write_tiff


def parse(data: bytes) -> list[tiff.Directory]:
    return tiff.directories(lambda offset, size: data[offset : offset + size], len(data))


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": ">"}])
def test_directories_agree_with_tifffile(tmp_path, options):
    """Oracle: tifffile's own parser."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, **options) as writer:
        writer.write(texture(150, 200), tile=(64, 64), subifds=2, resolution=(20000, 40000), resolutionunit=3)
        writer.write(texture(75, 100), tile=(64, 64), subfiletype=1)
        writer.write(texture(37, 50), tile=(64, 64), subfiletype=1)
    actual = parse(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        expected = [file.pages[0], *file.pages[0].pages]
        for mine, page in zip(actual, expected, strict=True):
            assert (mine.width, mine.height, mine.tile) == (page.imagewidth, page.imagelength, (64, 64))
            assert mine.offsets.tolist() == list(page.dataoffsets)
            assert mine.counts.tolist() == list(page.databytecounts)
    assert actual[0].resolution == pytest.approx((0.5, 0.25))


def test_a_file_truncated_at_any_byte_has_the_status_truncated(tmp_path):
    data = write_tiff(tmp_path / "a.tif", texture(130, 130), compression="zlib").read_bytes()
    last = max(int((d.offsets + d.counts).max()) for d in parse(data))
    for end in [*range(1, 400), *range(400, last, 97), last - 1]:
        with pytest.raises(SlideError) as caught:
            parse(data[:end])
        assert caught.value.status is Status.TRUNCATED, end


def test_a_circular_chain_of_directories_is_an_error_and_no_endless_loop():
    entry = struct.pack("<HHII", 256, 4, 1, 100)
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    with pytest.raises(SlideError, match="circular"):
        parse(data)


def test_a_small_file_that_states_a_million_pixels_squared_takes_no_memory():
    tags = [(256, 1_000_000), (257, 1_000_000), (322, 256), (323, 256), (324, 8), (325, 8)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + body + struct.pack("<I", 0)
    with pytest.raises(SlideError, match="15264649 tiles, the table has 1") as caught:
        parse(data.ljust(2000, b"\0"))
    assert caught.value.status is Status.READ_ERROR


def test_a_value_of_four_gigabytes_in_a_small_file_is_truncated():
    entry = struct.pack("<HHII", 324, 4, 0xFFFFFFFF, 8)
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    with pytest.raises(SlideError) as caught:
        parse(data)
    assert caught.value.status is Status.TRUNCATED


def test_random_damage_raises_only_slide_errors(tmp_path):
    data = bytearray(write_tiff(tmp_path / "a.tif", texture(130, 130), compression="zlib").read_bytes())
    rng = np.random.default_rng(1)
    head = min(int(d.offsets.min()) for d in parse(bytes(data)))
    for _ in range(400):
        broken = bytearray(data)
        for at in rng.integers(0, head, 3):
            broken[at] = rng.integers(256)
        with contextlib.suppress(SlideError):  # any other exception fails the test
            parse(bytes(broken))
