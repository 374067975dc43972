"""slides.csv: its columns, its order, and what is read from it again."""

import pytest

from mcti.slides import slide_table
from mcti.slides.features import FeatureFileInfo
from mcti.slides.slide_table import SlideOutcome

INFO = FeatureFileInfo("key", "content", 12, 1, 0.25, "aperio", "tiff", 2048, 1024)
DONE = SlideOutcome.from_file("B", "P2", INFO, processed=False)
FAILED = SlideOutcome("A", "P1", "NO_TISSUE", "no tissue")


def test_the_table_has_one_sorted_row_per_slide():
    assert slide_table.to_csv([DONE, FAILED]) == (
        "slide_id,patient_id,status,reason,tiles,failed_tiles,mpp,mpp_source,reader,width,height,key\n"
        "A,P1,NO_TISSUE,no tissue,0,0,,,,,,\n"
        "B,P2,OK,,12,1,0.25,aperio,tiff,2048,1024,key\n"
    )


def test_a_written_table_is_read_as_the_same_rows(tmp_path):
    slide_table.write(tmp_path / "slides.csv", [DONE, FAILED])
    rows = slide_table.read(tmp_path / "slides.csv")
    assert rows == [FAILED, SlideOutcome.from_file("B", "P2", INFO, processed=True)]
    assert list(slide_table.read_completed(tmp_path / "slides.csv")) == ["B"]


@pytest.mark.parametrize("text", ["", "slide_id,status\nA,OK\n", "no table"])
def test_a_missing_or_foreign_table_has_no_completed_slides(tmp_path, text):
    assert slide_table.read_completed(tmp_path / "slides.csv") == {}
    (tmp_path / "slides.csv").write_text(text)
    assert slide_table.read_completed(tmp_path / "slides.csv") == {}
