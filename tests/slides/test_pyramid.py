"""The levels of a TIFF slide and its resolution, for files of several writers."""

import cv2
import numpy as np
import pytest
import tifffile

from mcti.slides import probe
from mcti.slides.status import SlideError, Status

from .conftest import texture, write_tiff

PICTURE = texture(600, 800)
HALF = cv2.resize(PICTURE, (400, 300), interpolation=cv2.INTER_AREA)
TILES = {"tile": (64, 64), "photometric": "rgb"}
MPP = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}


def refused(path, **options):
    with pytest.raises(SlideError) as caught:
        probe.examine(path, **options)
    return caught.value.status, caught.value.reason


def first_pixels(path, reader="tiff"):
    with probe.open_reader(path, reader) as slide:
        return [slide.read(i, 0, 0, 64, 64) for i in range(len(slide.levels))], slide.levels


@pytest.mark.parametrize("tiled", [True, False], ids=["tiled thumbnail", "thumbnail in strips"])
def test_a_thumbnail_page_first_is_not_the_slide(tmp_path, tiled):
    path = tmp_path / "a.tif"
    small = cv2.resize(PICTURE, (160, 120), interpolation=cv2.INTER_AREA)
    with tifffile.TiffWriter(path) as writer:
        writer.write(small, photometric="rgb", metadata=None, **({"tile": (64, 64)} if tiled else {}))
        writer.write(PICTURE, **TILES, **MPP, metadata=None)
        writer.write(HALF, **TILES, subfiletype=1, metadata=None)
    info = probe.examine(path)
    assert (info.reader, info.width, info.height) == ("tiff", 800, 600)
    assert info.mpp == pytest.approx((0.5, 0.5))
    pixels, levels = first_pixels(path)
    assert [(level.width, level.height) for level in levels] == [(800, 600), (400, 300), *([(160, 120)] * tiled)]
    np.testing.assert_array_equal(pixels[0], PICTURE[:64, :64])


def test_the_smallest_level_first_is_read_from_the_largest(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for picture in (HALF[::2, ::2], HALF, PICTURE):
            writer.write(picture, **TILES, metadata=None, **(MPP if picture is PICTURE else {}))
    info = probe.examine(path)
    assert (info.width, info.levels) == (800, 3)
    assert info.mpp == pytest.approx((0.5, 0.5))
    pixels, _ = first_pixels(path)
    np.testing.assert_array_equal(pixels[1], HALF[:64, :64])


@pytest.mark.parametrize(
    ("size", "status"),
    [
        ("800x600 (64x64) JPEG/RGB", None),
        ("46000x32914 [42673,5576 800x600] (240x240) JPEG/RGB", None),
        ("136576x93408 [0,0,800x600] (256x256) JPEG/YCC", None),
        ("1600x1200 (64x64) JPEG/RGB", Status.MISSING_MPP),
        ("46000x32914 [0,100 46000x32914] (240x240) -> 800x600 JPEG/RGB", Status.MISSING_MPP),
        ("Compression", None),
    ],
)
def test_aperios_resolution_holds_for_the_size_that_it_states(tmp_path, size, status):
    """A resizing tool keeps the description, and with it the resolution of the larger picture."""
    path = tmp_path / "a.svs"
    note = f"Aperio Image Library v11.2.1\r\n{size} Q=70|AppMag = 20|MPP = 0.499"
    write_tiff(path, PICTURE, description=note)
    if status is None:
        assert probe.examine(path).mpp == (0.499, 0.499)
    else:
        assert refused(path)[0] is status
        assert "800x600 px" in refused(path)[1]
        assert probe.examine(path, mpp=1.0).mpp == (1.0, 1.0)


@pytest.mark.parametrize(("stated", "status"), [("800x600", None), ("1600x1200", Status.MISSING_MPP)])
def test_aperios_resolution_may_be_stated_by_another_page_for_the_size_of_the_slide(tmp_path, stated, status):
    """The smallest level first: the description belongs to it, the size in it is that of the finest level."""
    path = tmp_path / "a.svs"
    note = f"Aperio Image Library v11.2.1\r\n{stated} (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.499"
    with tifffile.TiffWriter(path) as writer:
        writer.write(HALF, **TILES, metadata=None, description=note)
        writer.write(PICTURE, **TILES, metadata=None)
    if status is None:
        info = probe.examine(path)
        assert (info.width, info.mpp, info.mpp_source) == (800, (0.499, 0.499), "aperio")
    else:
        assert refused(path)[0] is status


def test_the_orientation_of_a_thumbnail_page_does_not_matter(tmp_path):
    path = tmp_path / "a.tif"
    rotated = [(274, 3, 1, 6, True)]
    with tifffile.TiffWriter(path) as writer:
        writer.write(HALF[::4, ::4], photometric="rgb", metadata=None, extratags=rotated)
        writer.write(PICTURE, **TILES, **MPP, metadata=None)
    info = probe.examine(path)
    assert (info.reader, info.width, info.height) == ("tiff", 800, 600)


def test_the_size_in_ome_xml_is_checked_too(tmp_path):
    path = tmp_path / "a.ome.tif"
    text = (
        "<OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'><Image><Pixels SizeX='1600' SizeY='1200' "
        "PhysicalSizeX='0.25' PhysicalSizeY='0.25'><TiffData IFD='0'/></Pixels></Image></OME>"
    )
    write_tiff(path, PICTURE, description=text)
    assert refused(path)[0] is Status.MISSING_MPP
    write_tiff(path, PICTURE, description=text.replace("1600", "800").replace("1200", "600"))
    assert probe.examine(path).mpp == (0.25, 0.25)


@pytest.mark.parametrize("compression", ["zstd", "packbits", "zlib", "lzw", "jpeg", None])
def test_an_ome_tiff_keeps_resolution_levels_and_pixels_in_every_codec(tmp_path, compression):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(PICTURE, subifds=1, compression=compression, metadata={"axes": "YXS", **sizes}, **TILES)
        writer.write(HALF, subfiletype=1, compression=compression, **TILES)
    info = probe.examine(path)
    assert (info.reader, info.vendor, info.levels, info.mpp_source) == ("tiff", "ome", 2, "ome")
    assert info.mpp == pytest.approx((0.25, 0.25))
    pixels, _ = first_pixels(path)
    assert np.abs(pixels[0].astype(int) - PICTURE[:64, :64]).mean() <= (5 if compression == "jpeg" else 0)
    assert np.abs(pixels[1].astype(int) - HALF[:64, :64]).mean() <= (5 if compression == "jpeg" else 0)


def two_images(path, second, **options):
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(PICTURE, metadata={"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, **TILES, **options)
        writer.write(second, metadata={"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}, **TILES)
    return path


def test_a_section_of_another_image_is_no_level(tmp_path):
    info = probe.examine(two_images(tmp_path / "a.ome.tif", HALF))
    assert (info.width, info.levels) == (800, 1)
    assert info.mpp == (0.5, 0.5)


def test_resolution_is_that_of_the_image_which_is_read(tmp_path):
    larger = texture(1200, 1500)
    info = probe.examine(two_images(tmp_path / "a.ome.tif", larger))
    assert (info.width, info.mpp, info.levels) == (1500, (0.25, 0.25), 1)


def test_the_micron_sign_in_latin_1_is_read(tmp_path):
    text = (
        "<OME xmlns='x'><Image><Pixels SizeX='800' SizeY='600' PhysicalSizeX='0.25' PhysicalSizeXUnit='~m' "
        "PhysicalSizeY='0.25'><TiffData/></Pixels></Image></OME>"
    )
    path = write_tiff(tmp_path / "a.ome.tif", PICTURE, description=text)
    path.write_bytes(path.read_bytes().replace(b"'~m'", b"'\xb5m'"))
    assert probe.examine(path).mpp == (0.25, 0.25)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reader", ["tiff", "openslide", "flat"])
def test_a_picture_stored_rotated_or_mirrored_is_refused_by_every_reader(tmp_path, orientation, reader):
    path = write_tiff(tmp_path / "a.tif", PICTURE, extratags=[(274, 3, 1, orientation, True)])
    if orientation == 1:
        assert probe.examine(path, choice=reader, mpp=0.5).width == 800
    else:
        status, reason = refused(path, choice=reader, mpp=0.5)
        assert status is Status.UNSUPPORTED_FORMAT
        assert f"Orientation {orientation}" in reason


def test_a_rotated_photograph_is_refused(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PICTURE).save(tmp_path / "a.jpg", exif=exif)
    assert refused(tmp_path / "a.jpg", mpp=0.5)[0] is Status.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"planarconfig": "separate", "compression": "zlib"}])
def test_a_transparent_edge_is_white_in_every_reader(tmp_path, alpha, options):
    mask = np.zeros((600, 800, 1), np.uint8)
    mask[100:500, 130:700] = 255
    mask[100:120, 130:700] = 128  # half transparent
    colours = PICTURE.astype(int) * mask // 255 if alpha == "assocalpha" else np.where(mask > 0, PICTURE, 0)
    expected = (PICTURE.astype(int) * mask + 255 * (255 - mask.astype(int))) / 255
    picture = np.concatenate([colours.astype(np.uint8), mask], axis=2)
    if "planarconfig" in options:
        picture = picture.transpose(2, 0, 1).copy()
    path = write_tiff(tmp_path / "a.tif", picture, extrasamples=[alpha], **options)
    assert probe.examine(path).reader == "tiff"
    for name in ("tiff", "openslide", *(["flat"] if "planarconfig" not in options else [])):
        with probe.open_reader(path, name) as reader:
            region = reader.read(0, 0, 0, 800, 600)
        assert (region[:100] == 255).all(), name
        assert np.abs(region - expected).max() <= 2, name  # rounding of products
        np.testing.assert_array_equal(region[120:500, 130:700], PICTURE[120:500, 130:700])


def test_a_fourth_sample_without_a_meaning_that_is_zero_everywhere_is_padding(tmp_path):
    picture = np.concatenate([PICTURE, np.zeros((600, 800, 1), np.uint8)], axis=2)
    path = write_tiff(tmp_path / "a.tif", picture, extrasamples=["unspecified"])
    pixels, _ = first_pixels(path)
    np.testing.assert_array_equal(pixels[0], PICTURE[:64, :64])


def test_a_thumbnail_page_first_in_strips_is_not_the_slide(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(HALF[::2, ::2], photometric="rgb", metadata=None)
        writer.write(PICTURE, photometric="rgb", metadata=None)
    info = probe.examine(path, mpp=0.5)
    assert (info.reader, info.width, info.height) == ("flat", 800, 600)
    pixels, _ = first_pixels(path, "flat")
    np.testing.assert_array_equal(pixels[0], PICTURE[:64, :64])
