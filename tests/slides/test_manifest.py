"""Lists of slides: errors of the whole list, and problems that are stated in a row."""

import math

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.slides import manifest


def write(tmp_path, text):
    path = tmp_path / "slides.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_parquet_give_the_same_rows(tmp_path):
    (tmp_path / "a b é.svs").touch()
    csv = write(tmp_path, "patient_id,slide_id,path,mpp\nP1,S1,a b é.svs,0.25\nP1,S0,/abs/x.svs,\n")
    rows = manifest.read(csv)
    assert [(r.slide_id, r.mpp) for r in rows] == [("S0", None), ("S1", 0.25)]
    assert rows[1].path == str(tmp_path / "a b é.svs")
    pd.read_csv(csv).to_parquet(tmp_path / "slides.parquet")
    assert manifest.read(tmp_path / "slides.parquet") == rows


def test_a_path_starts_at_the_folder_of_the_manifest_or_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "b.svs").touch()
    monkeypatch.chdir(tmp_path / "work")
    csv = write(tmp_path, "patient_id,slide_id,path\nP,B,b.svs\nP,C,c.svs\n")
    assert [r.path for r in manifest.read(csv)] == ["b.svs", str(tmp_path / "c.svs")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,slide,path\n", "column 'slide_id' is missing"),
        ("patient_id,slide_id,path\n", "there are no slides"),
        ("patient_id,slide_id,path\nP,,x.svs\n", "slide_id is empty .*row 2"),
        ("patient_id,slide_id,path,mpp\nP,S,x.svs,0.25um\n", "mpp is '0.25um', not a number .*row 2"),
        ("", "not a slide manifest"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_row(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        manifest.read(write(tmp_path, text))


def test_repeated_names_and_names_outside_of_the_folder_are_problems_of_their_rows(tmp_path):
    csv = write(
        tmp_path,
        "patient_id,slide_id,path\nP,S,a.svs\nP,S,b.svs\nP,../../x,c.svs\nP,T,../d.svs\nP,U,e/../../f.svs\nP,OK,g.svs\n",
    )
    problems = {(r.slide_id, r.path): r.problem for r in manifest.read(csv)}
    assert sum("2 slides are called S" in problem for problem in problems.values()) == 2
    assert sum("no valid file name" in problem for problem in problems.values()) == 1
    assert sum("leaves the data folder" in problem for problem in problems.values()) == 2
    assert sum(not problem for problem in problems.values()) == 1


def test_slides_of_a_folder_are_named_by_their_stems_and_repeated_stems_are_problems(tmp_path):
    for name in ("x.svs.svs", "y.tif", "sub/y.svs", ".hidden.svs", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = manifest.read(tmp_path)
    assert [r.slide_id for r in rows] == ["x.svs", "y", "y"]  # removesuffix, not rstrip
    assert [bool(r.problem) for r in rows] == [False, True, True]


def test_a_slide_may_be_called_nan_and_an_mpp_may_not(tmp_path):
    (tmp_path / "list.csv").write_text("patient_id,slide_id,path,mpp\nnan,nan,a.tif,\nP,S,b.tif,nan\n")
    rows = {row.slide_id: row for row in manifest.read(tmp_path / "list.csv")}
    assert rows["nan"].mpp is None
    assert math.isnan(rows["S"].mpp)  # later refused as MPP_OUT_OF_RANGE in its row


def test_circular_links_are_not_followed(tmp_path):
    (tmp_path / "a.svs").touch()
    (tmp_path / "round").symlink_to(tmp_path)
    assert [r.slide_id for r in manifest.read(tmp_path)] == ["a"]


def test_patient_ids_need_no_path_and_file_endings_are_dropped(tmp_path):
    table = tmp_path / "slides.csv"
    table.write_text("patient_id,slide_id\nP1,a.DX1.svs\nP1,b.DX1.AB.CD\nP2,c\n", encoding="utf-8")
    assert manifest.read_patient_ids(table) == {"a.DX1": "P1", "b.DX1.AB.CD": "P1", "c": "P2"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("patient_id,slide\nP,a\n", "column 'slide_id' is missing"),
        ("patient_id,slide_id\n,a\n", "patient_id is empty"),
        ("patient_id,slide_id\nP1,a\nP2,a.svs\n", "slide a belongs to patient P1 and to patient P2"),
    ],
)
def test_a_slide_without_a_patient_or_with_two_is_refused(tmp_path, text, what):
    table = tmp_path / "slides.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=what):
        manifest.read_patient_ids(table)
