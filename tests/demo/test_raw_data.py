"""The raw data of the demo: written once, kept when current, repaired when damaged, always with the same bytes."""

import json

import pandas as pd
import pytest

from mcti import storage
from mcti.demo import raw_data


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Three patients, painted by two processes."""
    folder = tmp_path_factory.mktemp("a demo") / "raw"
    assert raw_data.write(folder, patients=3)
    return folder


def slides(raw):
    return {path.name: path.read_bytes() for path in (raw / "slides").iterdir()}


def test_every_patient_has_a_slide_with_its_md5_and_resolution(raw):
    table = pd.read_csv(raw / "slides.csv")
    assert len(table) == len(slides(raw)) == 3
    assert [storage.md5(raw / path) for path in table["path"]] == table["md5"].tolist()
    assert set(table["mpp"]) == {0.5}
    assert len(pd.read_csv(raw / "clinical.csv")) == len(pd.read_csv(raw / "expression.csv")) == 3


def test_a_second_call_writes_nothing(raw):
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    assert raw_data.write(raw, patients=3) is False
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def test_missing_damaged_and_changed_files_are_restored_to_the_same_bytes(raw):
    expected = slides(raw)
    clinical = (raw / "clinical.csv").read_bytes()
    first, second, third = sorted((raw / "slides").iterdir())
    first.unlink()
    second.write_bytes(b"truncated")
    (raw / "clinical.csv").write_text("changed")
    untouched = third.stat().st_mtime_ns
    assert raw_data.write(raw, patients=3)
    assert slides(raw) == expected
    assert (raw / "clinical.csv").read_bytes() == clinical
    assert third.stat().st_mtime_ns == untouched


def test_slides_of_other_painting_code_are_painted_again(raw):
    expected = slides(raw)
    record = json.loads((raw / "painted.json").read_text())
    (raw / "painted.json").write_text(json.dumps(record | {"painter": "other code"}))
    for path in (raw / "slides").iterdir():
        path.write_bytes(b"old")
    assert raw_data.write(raw, patients=3)
    assert slides(raw) == expected
