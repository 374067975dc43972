"""The properties of a slide, and the status of slides that cannot be used."""

import os

import numpy as np
import pytest
import tifffile

from mcti.slides import probe
from mcti.slides.status import SlideError, Status

from .conftest import texture, write_tiff


def status_of(path, **options):
    with pytest.raises(SlideError) as caught:
        probe.examine(path, **options)
    assert caught.value.reason
    return caught.value.status


def test_real_slides_without_a_resolution_are_refused_until_the_manifest_states_it(cmu, tcga):
    info = probe.examine(cmu)
    assert (info.mpp, info.mpp_source, info.reader) == ((0.499, 0.499), "aperio", "tiff")
    assert status_of(tcga) is Status.MISSING_MPP
    assert probe.examine(tcga, mpp=0.5).mpp_source == "manifest"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", Status.TRUNCATED),
        (b"<html><body>Sign in</body></html>", Status.UNSUPPORTED_FORMAT),
        (b"II*\0", Status.TRUNCATED),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), Status.NOT_PYRAMIDAL),
        (bytes(4096), Status.UNSUPPORTED_FORMAT),
    ],
    ids=["empty", "html", "four bytes", "png without mpp", "zeros"],
)
def test_files_that_are_no_slides(tmp_path, content, expected):
    path = tmp_path / "a.svs"
    path.write_bytes(content)
    assert status_of(path) is expected


def test_a_broken_png_is_a_read_error_even_with_a_resolution(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    assert status_of(path, mpp=0.5) is Status.READ_ERROR


def test_paths_that_cannot_be_read(tmp_path):
    (tmp_path / "loop.svs").symlink_to(tmp_path / "loop.svs")
    for name in ("nothing.svs", "loop.svs", ".", "nul\0byte.svs"):
        assert status_of(tmp_path / name) is Status.READ_ERROR


def test_a_circular_link_is_named_in_the_reason(tmp_path):
    (tmp_path / "loop.svs").symlink_to(tmp_path / "loop.svs")
    with pytest.raises(SlideError, match="circular"):
        probe.examine(tmp_path / "loop.svs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_a_read_error(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(64, 64))
    path.chmod(0)
    assert status_of(path) is Status.READ_ERROR


@pytest.mark.parametrize(("mpp", "expected"), [(0.001, False), (0.05, True), (2.5, True), (2.6, False), (-1, False)])
def test_impossible_resolutions_are_refused_from_every_source(tmp_path, mpp, expected):
    path = write_tiff(tmp_path / "a.tif", texture(64, 64))
    if expected:
        assert probe.examine(path, mpp=mpp).mpp == (mpp, mpp)
    else:
        assert status_of(path, mpp=mpp) is Status.MPP_OUT_OF_RANGE


def test_print_resolutions_are_out_of_range(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(64, 64), resolution=(72, 72), resolutionunit="INCH")
    assert status_of(path) is Status.MPP_OUT_OF_RANGE


def test_an_ome_tiff_states_its_resolution_with_a_unit(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        texture(128, 128),
        tile=(64, 64),
        photometric="rgb",
        metadata={"axes": "YXS", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25},
    )
    info = probe.examine(path)
    assert info.mpp == pytest.approx((0.25, 0.25))
    assert info.mpp_source == "ome"


def test_a_file_with_only_a_label_is_refused(tmp_path):
    path = tmp_path / "a.svs"
    tifffile.imwrite(path, texture(64, 64), photometric="rgb", description="Aperio Image\r\nlabel 64x64", metadata=None)
    assert status_of(path, mpp=0.5) is Status.UNSUPPORTED_FORMAT


def test_content_ids_follow_the_bytes_and_not_the_name(tmp_path):
    for name, content in {"a": b"x" * 99, "b": b"x" * 99, "c": b"x" * 98 + b"y"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c = (probe.content_id(tmp_path / name) for name in "abc")
    assert a == b != c


def test_content_ids_of_large_files_depend_on_their_last_bytes(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, 17 << 20, np.uint8)
    (tmp_path / "a").write_bytes(data.tobytes())
    data[-1] ^= 1
    (tmp_path / "b").write_bytes(data.tobytes())
    assert probe.content_id(tmp_path / "a") != probe.content_id(tmp_path / "b")
