"""DICOM slides: one row per series for any of its files; other files of the folder are ignored."""

import shutil

import numpy as np
import pytest

from mcti.slides import dicom, inventory, manifest, probe, slide_files
from mcti.slides.status import SlideError, Status

from . import dicom_factory
from .conftest import texture


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A folder with the six instances of one slide of 1024 x 768 px at 0.5 µm/px."""
    folder = tmp_path_factory.mktemp("dicom") / "slide A"
    dicom_factory.write_slide(folder, texture(768, 1024))
    return folder


def status_of(location):
    with pytest.raises(SlideError) as caught:
        probe.examine(location)
    return caught.value.status, caught.value.reason


def test_a_folder_with_one_series_is_one_row_with_the_name_of_the_folder(series):
    (row,) = manifest.read(series)
    assert (row.slide_id, row.path) == ("slide A", str(series / "level0.dcm"))
    assert manifest.read(series.parent) == [row]
    for name in ("level2.dcm", "label.dcm"):  # any instance identifies the slide
        assert manifest.read(series / name) == [row]


def test_two_series_in_one_folder_are_two_rows_with_their_uids_as_names(tmp_path):
    for seed in ("1", "2"):
        dicom_factory.write_slide(tmp_path / seed, texture(300, 300, int(seed)), levels=2, seed=seed)
        for path in (tmp_path / seed).iterdir():
            shutil.move(path, tmp_path / f"{seed}-{path.name}")
        (tmp_path / seed).rmdir()
    dicom_factory.write_instance(
        tmp_path / "single.dcm", texture(300, 300, 3), ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"), 0.5, "3", extent=150
    )
    (tmp_path / "plain.svs").touch()
    uids = {next(dicom.instances([str(tmp_path / f"{s}-level0.dcm")])).series for s in "12"}
    assert {row.slide_id for row in manifest.read(tmp_path)} == {*uids, "single", "plain"}


def test_files_without_ending_or_with_a_uid_as_name_are_dicom_and_an_index_is_not(series, tmp_path):
    for i, name in enumerate(("level0", "level1", "level2", "label")):
        shutil.copy(series / f"{name}.dcm", tmp_path / ("IM000" if not i else f"1.2.840.{i}"))
    (tmp_path / "notes").write_text("no DICOM")
    shutil.copy(series / "level0.dcm", tmp_path / "DICOMDIR")
    data = (tmp_path / "DICOMDIR").read_bytes()
    index = b"1.2.840.10008.1.3.10".ljust(len(dicom.WHOLE_SLIDE), b"\0")
    (tmp_path / "DICOMDIR").write_bytes(data.replace(dicom.WHOLE_SLIDE.encode(), index))
    (row,) = manifest.read(tmp_path)
    assert row.path == str(tmp_path / "IM000")
    info = probe.examine(row.path)
    assert (info.width, info.height, info.levels, info.mpp) == (1024, 768, 3, (0.5, 0.5))


def test_the_slide_is_the_same_from_any_of_its_files_and_from_the_folder(series):
    locations = [series, *sorted(series.iterdir())]
    assert len({probe.content_id(location) for location in locations}) == 1
    for location in locations:
        info = probe.examine(location)
        assert (info.width, info.height, info.levels, info.mpp, info.compression) == (
            1024, 768, 3, (0.5, 0.5), "jpeg",
        )  # fmt: skip


def test_the_content_id_changes_with_a_level_but_not_with_other_files_of_the_folder(series, tmp_path):
    folder = tmp_path / "slide A"
    shutil.copytree(series, folder)
    before = probe.content_id(folder)
    assert before == probe.content_id(series)
    (folder / "report.txt").write_text("new")
    dicom_factory.write_instance(
        folder / "other.dcm", texture(300, 300), ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"), 0.5, "9", extent=150
    )
    (folder / "label.dcm").unlink()  # no level
    assert probe.content_id(folder / "level1.dcm") == before
    (folder / "level2.dcm").unlink()
    assert probe.content_id(folder / "level1.dcm") != before


def test_rows_with_different_files_of_one_slide_are_duplicates(series, tmp_path):
    shutil.copytree(series, tmp_path / "copy")
    rows = [
        manifest.SlideRow("P1", "a", str(series / "level0.dcm")),
        manifest.SlideRow("P2", "b", str(series / "level2.dcm")),
        manifest.SlideRow("P3", "c", str(tmp_path / "copy")),
    ]
    entries = inventory.with_duplicates([inventory.check(row) for row in rows])
    assert [entry.duplicates for entry in entries] == [2, 2, 2]
    (tmp_path / "copy" / "level2.dcm").unlink()  # other bytes, the same slide for OpenSlide
    entries = inventory.with_duplicates([inventory.check(row) for row in rows])
    assert [entry.duplicates for entry in entries] == [2, 2, 2]
    assert entries[2].content_id != entries[0].content_id


def test_the_members_of_a_slide_are_the_instances_of_its_series(series, tmp_path):
    folder = tmp_path / "slide A"
    shutil.copytree(series, folder)
    shutil.copy(folder / "level0.dcm", tmp_path / "elsewhere.dcm")
    (folder / "report.txt").touch()
    assert {name.rpartition("/")[2] for name in slide_files.members(folder / "level2.dcm")} == {
        path.name for path in series.iterdir()
    }
    assert slide_files.resolve(folder) == str(folder / "level0.dcm")


def test_a_lower_level_without_the_finest_one_is_truncated(series, tmp_path):
    shutil.copy(series / "level1.dcm", tmp_path)
    status, reason = status_of(tmp_path / "level1.dcm")
    assert status is Status.TRUNCATED
    assert "full resolution is missing" in reason


def test_the_reason_states_what_a_dicom_file_without_a_slide_is(series, tmp_path):
    shutil.copy(series / "label.dcm", tmp_path)
    assert status_of(tmp_path / "label.dcm") == (
        Status.UNSUPPORTED_FORMAT,
        "the DICOM series holds no VOLUME instance, only label",
    )
    image_type = ("ORIGINAL", "PRIMARY", "AXIAL")
    path = dicom_factory.write_instance(
        tmp_path / "ct.dcm", texture(64, 64), image_type, 0.5, "5", extent=32, Modality="CT"
    )
    data = path.read_bytes().replace(dicom.WHOLE_SLIDE.encode(), b"1.2.840.10008.5.1.4.1.1.2".ljust(30, b"\0"))
    path.write_bytes(data)
    assert status_of(path) == (Status.UNSUPPORTED_FORMAT, "DICOM of modality CT, no whole slide image")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ConcatenationUID": "1.2.3"}, Status.UNSUPPORTED_FORMAT),
        ({"SamplesPerPixel": 1}, Status.NOT_HE),
        ({"BitsAllocated": 16}, Status.NOT_HE),
        ({"TotalPixelMatrixFocalPlanes": 3}, Status.UNSUPPORTED_FORMAT),
    ],
)
def test_unsupported_forms_are_refused(tmp_path, changes, status):
    dicom_factory.write_slide(tmp_path, texture(300, 300), levels=1, **changes)
    assert status_of(tmp_path / "level0.dcm")[0] is status


def test_a_folder_of_several_slides_or_of_none_is_refused_as_a_path(series, tmp_path):
    assert "a folder without a DICOM slide" in status_of(tmp_path)[1]
    for seed in ("1", "2"):
        dicom_factory.write_slide(tmp_path / seed, texture(300, 300), levels=1, seed=seed)
        shutil.copy(tmp_path / seed / "level0.dcm", tmp_path / f"{seed}.dcm")
    assert "2 DICOM slides" in status_of(tmp_path)[1]


def test_damaged_headers_raise_only_slide_errors(series, tmp_path):
    data = (series / "level2.dcm").read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(150):
        broken = bytearray(data[: rng.integers(133, 3000)] if trial % 3 == 0 else data)
        for at in rng.integers(132, 1500, 4):
            broken[min(at, len(broken) - 1)] = rng.integers(256)
        path = tmp_path / f"{trial}.dcm"
        path.write_bytes(broken)
        entry = inventory.check(manifest.SlideRow("P", "S", str(path)))
        assert entry.status in set(Status)
        path.unlink()
