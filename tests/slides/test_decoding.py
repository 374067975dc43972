"""Tile codecs: each compared with OpenSlide or tifffile on the same file."""

import numpy as np
import openslide
import pytest
import tifffile

from mcti.slides import probe
from mcti.slides.status import RegionError, SlideError, Status

from .conftest import texture, write_tiff


def read_all(path):
    info = probe.examine(path)
    with probe.open_reader(path, info.reader) as reader:
        return reader.read(0, 0, 0, info.width, info.height)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": None},
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "jpeg"},
        {"compression": "zstd"},  # through OpenSlide
        {"compression": "zlib", "planarconfig": "separate"},
        {"compression": "jpeg", "planarconfig": "separate"},
        {"compression": "jpeg", "compressionargs": {"level": 90}, "photometric": "ycbcr", "subsampling": (1, 1)},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_each_codec_gives_the_pixels_that_openslide_gives(tmp_path, options):
    """Oracle: OpenSlide 4.0.1 (libtiff, libjpeg-turbo); no tolerance."""
    picture = texture(150, 200)
    if "planarconfig" in options:
        picture = picture.transpose(2, 0, 1)
    path = write_tiff(tmp_path / "a.tif", picture, **options)
    with openslide.OpenSlide(path) as slide:
        expected = np.asarray(slide.read_region((0, 0), 0, (200, 150)))[:, :, :3]
    np.testing.assert_array_equal(read_all(path), expected)


def test_lossless_jpeg_2000_tiles_give_the_original_pixels(tmp_path):
    """Lossless, so the picture itself is the oracle."""
    picture = texture(128, 192)
    path = write_tiff(tmp_path / "a.tif", picture, compression="jpeg2000", compressionargs={"level": 0})
    np.testing.assert_array_equal(read_all(path), picture)


@pytest.mark.parametrize(("number", "name"), [(33003, "YCbCr"), (33005, "RGB")])
def test_both_jpeg_2000_codecs_of_aperio_give_the_pixels_of_openslide(tmp_path, number, name):
    """Oracle: OpenSlide 4.0.1, which reads these through OpenJPEG and its own colour conversion."""
    path = write_tiff(
        tmp_path / "a.svs",
        np.random.default_rng(0).integers(0, 256, (256, 512, 3), np.uint8),
        compression="jpeg2000",
        compressionargs={"level": 0, "mct": False, "codecformat": "j2k"},
        description=f"Aperio Image Library\r\n512x256 J2K/{name}|MPP = 0.5",
    )
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags["Compression"].valueoffset
    path.write_bytes(data[:at] + number.to_bytes(2, "little") + data[at + 2 :])
    with openslide.OpenSlide(path) as slide:
        expected = np.asarray(slide.read_region((0, 0), 0, (512, 256)))[:, :, :3]
    np.testing.assert_array_equal(read_all(path), expected)


def test_a_jpeg_tile_that_states_another_size_is_refused_before_decoding(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(64, 64), compression="jpeg")
    data = bytearray(path.read_bytes())
    at = data.rfind(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"  # 65535 x 65535
    path.write_bytes(data)
    with pytest.raises(RegionError, match="does not decode"):
        read_all(path)


def test_grey_pictures_of_sixteen_bits_are_no_stained_slide(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((128, 128), np.uint16), tile=(64, 64))
    with pytest.raises(SlideError) as caught:
        probe.examine(path, mpp=0.5)
    assert caught.value.status is Status.NOT_HE


def test_the_error_names_an_unsupported_codec(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(64, 64), compression="webp")
    with pytest.raises(SlideError, match="compression: 50001") as caught:
        probe.examine(path)
    assert caught.value.status is Status.UNSUPPORTED_COMPRESSION


def damaged(path, damage):
    """The slide with the bytes of its single tile replaced."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data[offset : offset + count] = damage(bytes(data[offset : offset + count]))
    path.write_bytes(data)


@pytest.mark.parametrize("lost", [0.3, 0.6])
def test_a_truncated_jpeg_tile_is_refused_and_not_filled_with_grey(tmp_path, lost):
    """Without strict mode, libjpeg fills the rest and only warns."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = write_tiff(tmp_path / "a.svs", noise, compression="jpeg")
    damaged(path, lambda body: body[: int(len(body) * (1 - lost))].ljust(len(body), b"\0"))
    with pytest.raises(RegionError, match="does not decode"):
        read_all(path)


def test_a_jpeg_tile_is_decoded_with_the_colour_space_of_the_directory(tmp_path):
    """A JFIF marker means YCbCr; the directory's RGB has precedence, as in libtiff (oracle: OpenSlide)."""
    path = write_tiff(tmp_path / "a.tif", texture(64, 64), compression="jpeg")
    before = read_all(path)
    data = path.read_bytes()
    jfif = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        tags = file.pages[0].tags
        entries = tags["TileOffsets"].valueoffset, tags["TileByteCounts"].valueoffset
    tile = data[offset : offset + 2] + jfif + data[offset + 2 : offset + count]
    changed = bytearray(data + tile)
    for entry, value in zip(entries, (len(data), len(tile)), strict=True):
        changed[entry : entry + 4] = value.to_bytes(4, "little")
    path.write_bytes(changed)
    np.testing.assert_array_equal(read_all(path), before)


def test_a_jpeg_2000_tile_with_zeros_or_without_its_end_is_refused(tmp_path):
    """OpenJPEG, and therefore OpenSlide, would return pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for damage in (
        lambda body: body[: len(body) // 2] + bytes(2000) + body[len(body) // 2 + 2000 :],
        lambda body: body.replace(b"\xff\x90\x00\x0a\x00\x00\x00\x00", b"\xff\x90\x00\x0a\x00\x00\xff\xff"),
    ):
        path = write_tiff(tmp_path / "a.tif", noise, compression="jpeg2000", compressionargs={"level": 0})
        damaged(path, damage)
        with pytest.raises(RegionError, match="does not decode"):
            read_all(path)
