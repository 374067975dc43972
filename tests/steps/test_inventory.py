"""The inventory: statuses without decoding, duplicates of content, one row per slide."""

import shutil

import pandas as pd

from mcti.demo import painting
from mcti.steps.inventory import inventory


def test_every_slide_has_a_row_with_status_and_content(tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    painting.paint(folder / "a.tif", seed=1, grade=1, er_positive=True)
    shutil.copy(folder / "a.tif", folder / "b.tif")
    data = (folder / "a.tif").read_bytes()
    (folder / "cut.tif").write_bytes(data[:-5000])
    (folder / "page.svs").write_text("<html>")
    reports = []
    result = inventory(folder, tmp_path / "out.csv", workers=2, progress=lambda *values: reports.append(values))
    table = pd.read_csv(tmp_path / "out.csv", index_col="slide_id")
    assert table["status"].to_dict() == {
        "a": "OK",
        "b": "OK",
        "cut": "TRUNCATED",
        "page": "UNSUPPORTED_FORMAT",
    }
    assert table["duplicates"].tolist() == [1, 1, 0, 0]
    assert table.loc["a", "content_id"] == table.loc["b", "content_id"]
    assert table.loc["a", ["width", "height", "levels"]].tolist() == [2048, 2048, 3]
    assert (result.slides, result.ok, result.duplicates) == (4, 2, 2)
    assert reports[-1][:2] == (4, 4)


def test_the_inventory_is_the_same_bytes_twice(tmp_path):
    painting.paint(tmp_path / "a.tif", seed=1, grade=1, er_positive=True)
    for name in ("1.csv", "2.csv"):
        inventory(tmp_path, tmp_path / name, workers=3)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_a_slide_without_resolution_has_all_other_columns(tmp_path):
    painting.paint(tmp_path / "a.tif", seed=1, grade=1, er_positive=True)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data.replace(b"|MPP = 0.5", b"|XXX = 0.5"))
    inventory(tmp_path, tmp_path / "out.csv")
    row = pd.read_csv(tmp_path / "out.csv").iloc[0]
    assert (row["status"], row["vendor"], row["compression"]) == ("MISSING_MPP", "aperio", "jpeg")
    assert (row["width"], row["levels"]) == (2048, 3)
    assert pd.isna(row["mpp_x"])
