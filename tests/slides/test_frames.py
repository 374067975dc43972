"""The direct reader of DICOM: the pixels are those of OpenSlide, other forms are not supported."""

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from mcti.slides import dicom, frames, probe
from mcti.slides.status import RegionError, SlideError, Status

from . import dicom_factory
from .conftest import texture

PICTURE = texture(777, 1001)


@pytest.fixture(scope="module", params=["jpeg", "uncompressed", "jpeg2000"])
def series(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom") / request.param
    if request.param == "jpeg":
        dicom_factory.write_slide(folder, PICTURE)
    else:
        dicom_factory.write_levels(folder, [PICTURE, PICTURE[::2, ::2]])
    if request.param == "jpeg2000":
        changed(folder, as_jpeg2000)
    return folder


def as_jpeg2000(header):
    frames = np.frombuffer(header.PixelData, np.uint8)[: header.NumberOfFrames * 256 * 256 * 3].reshape(-1, 256, 256, 3)
    header.PixelData = encapsulate([imagecodecs.jpeg2k_encode(f, codecformat="j2k", reversible=True) for f in frames])
    header["PixelData"].is_undefined_length = True
    header.PhotometricInterpretation, header.file_meta.TransferSyntaxUID = "YBR_RCT", JPEG2000Lossless


def changed(folder, change):
    for path in folder.glob("level*.dcm"):
        header = pydicom.dcmread(path)
        change(header)
        header.save_as(path)


def levels_of(folder):
    return frames.levels(dicom.check(dicom.series(folder / "level0.dcm")))


def test_pixels_of_every_level_are_those_of_openslide(series):
    info = probe.examine(series)
    assert (info.reader, info.mpp_source) == ("dicom", "dicom")
    theirs_facts = probe.examine(series, choice="openslide")
    assert (info.mpp, info.quickhash) == (theirs_facts.mpp, theirs_facts.quickhash)
    assert (info.width, info.height, info.levels) == (1001, 777, theirs_facts.levels)
    path = series / "level1.dcm"
    rng = np.random.default_rng(0)
    with probe.open_reader(path, "dicom") as actual, probe.open_reader(path, "openslide") as expected:
        assert [level.downsample for level in actual.levels] == [level.downsample for level in expected.levels]
        for i, level in enumerate(actual.levels):
            for x, y in rng.integers((-50, -50), (level.width, level.height), (25, 2)).tolist():
                np.testing.assert_array_equal(actual.read(i, x, y, 150, 90), expected.read(i, x, y, 150, 90))


def test_a_slide_without_a_resolution_needs_one_in_the_manifest(tmp_path):
    dicom_factory.write_slide(tmp_path, PICTURE, levels=1)
    changed(tmp_path, lambda header: header.__delitem__("SharedFunctionalGroupsSequence"))
    with pytest.raises(SlideError) as caught:
        probe.examine(tmp_path)
    assert caught.value.status is Status.MISSING_MPP
    assert probe.examine(tmp_path, mpp=0.25).mpp == (0.25, 0.25)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: setattr(header, "DimensionOrganizationType", "TILED_SPARSE"),
        lambda header: setattr(header, "NumberOfOpticalPaths", 2),
        lambda header: setattr(header, "PhotometricInterpretation", "YBR_PARTIAL_420"),
        lambda header: setattr(header, "TotalPixelMatrixRows", 100_000),
    ],
)
def test_openslide_reads_the_other_forms(tmp_path, change):
    dicom_factory.write_slide(tmp_path, PICTURE, levels=1)
    changed(tmp_path, change)
    assert levels_of(tmp_path) is None
    with pytest.raises(SlideError, match="not one fragment per tile"):
        probe.examine(tmp_path, choice="dicom")


def test_openslide_reads_frames_of_several_fragments(tmp_path):
    dicom_factory.write_slide(tmp_path, PICTURE, levels=1)

    def split(header):
        whole = [imagecodecs.jpeg8_encode(np.zeros((256, 256, 3), np.uint8)) for _ in range(header.NumberOfFrames)]
        header.PixelData = encapsulate(whole, fragments_per_frame=2)

    changed(tmp_path, split)
    assert levels_of(tmp_path) is None


def test_the_colour_space_is_that_of_the_jpeg_stream_whatever_the_header_states(tmp_path):
    """wsidicomizer 0.26.1 --add-missing-levels states RGB for streams of YCbCr."""
    dicom_factory.write_slide(tmp_path, PICTURE, levels=1)
    with probe.open_reader(tmp_path / "level0.dcm", "dicom") as reader:
        right = reader.read(0, 0, 0, 256, 256).copy()
    changed(tmp_path, lambda header: setattr(header, "PhotometricInterpretation", "RGB"))
    with probe.open_reader(tmp_path / "level0.dcm", "dicom") as reader:
        np.testing.assert_array_equal(reader.read(0, 0, 0, 256, 256), right)
    assert np.abs(right.astype(int) - PICTURE[:256, :256]).mean() < 4


def test_an_incomplete_file_is_truncated(tmp_path):
    dicom_factory.write_levels(tmp_path, [PICTURE])
    path = tmp_path / "level0.dcm"
    path.write_bytes(path.read_bytes()[:-200_000])
    with pytest.raises(SlideError) as caught:
        probe.examine(tmp_path)
    assert caught.value.status is Status.TRUNCATED


def test_a_broken_frame_is_an_error_only_for_its_region(tmp_path):
    dicom_factory.write_slide(tmp_path, PICTURE, levels=1)
    (level,) = levels_of(tmp_path)
    offset, count = int(level.directory.offsets[1]), int(level.directory.counts[1])
    data = bytearray(level.path.read_bytes())
    data[offset + 2 : offset + count] = bytes(count - 2)
    level.path.write_bytes(data)
    with probe.open_reader(level.path, "dicom") as reader:
        with pytest.raises(RegionError):
            reader.read(0, 256, 0, 10, 10)
        assert reader.read(0, 0, 0, 256, 256).std() > 1
