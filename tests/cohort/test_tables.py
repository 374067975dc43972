import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcti.cohort import tables
from mcti.contracts import expectations
from mcti.errors import DataError
from tests.cohort import cases

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cohort(tmp_path):
    return cases.write_cohort(cases.sources(), tmp_path / "cohort")


def test_the_page_contains_the_schema_and_the_expectations_of_the_code():
    page = (ROOT / "docs" / "cohort.md").read_text(encoding="utf-8")
    assert tables.render_schema() in page
    assert expectations.render() in page
    assert runpy.run_path(str(ROOT / "docs" / "render.py"))["cohort_page"]() == page, "run: make docs"


def test_ingest_and_the_data_contract_accept_the_same_ids():
    """`ingest` matches the whole id; Great Expectations searches in it, so the pattern is anchored there."""
    import re

    for text in ("P-1", "Ä b", "a" * 128, "a" * 129, "", " a", "a ", "a/b", "../x", "=a", "-a", "a\n", "<b>", "a:b"):
        assert bool(tables.ID_PATTERN.fullmatch(text)) == bool(re.search(expectations.ID, text)), text


def test_expression_is_read_by_gene_and_in_blocks(cohort):
    whole = tables.read_expression(cohort)
    pd.testing.assert_frame_equal(tables.read_expression(cohort, ["G7", "G2"]), whole[["G7", "G2"]])
    ids, values = zip(*tables.expression_blocks(cohort), strict=True)
    assert [i for block in ids for i in block] == list(whole.index)
    np.testing.assert_array_equal(np.concatenate(values), whole.to_numpy())
    with pytest.raises(DataError, match="gene 'G70' is missing"):
        tables.read_expression(cohort, ["G70"])


def test_a_folder_that_is_not_a_cohort_is_refused(tmp_path, cohort):
    with pytest.raises(DataError, match="no such file"):
        tables.read_patients(tmp_path)
    (cohort / "patients.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        tables.read_patients(cohort)
    frame = pd.DataFrame({"patient_id": ["a"]})
    frame.to_parquet(cohort / "patients.parquet")
    with pytest.raises(DataError, match="column 'cohort' is missing"):
        tables.read_patients(cohort)
    (cohort / "cohort.json").write_text('{"name": "x"}')
    with pytest.raises(DataError, match=r"cohort\.json, key"):
        tables.read_info(cohort)


def test_missing_values_are_written_and_read(tmp_path):
    frames = cases.sources()
    frames["clinical"]["is_female"] = frames["clinical"]["is_female"].astype("Int8")
    frames["clinical"].loc[1, "is_female"] = pd.NA
    frames["clinical"].loc[2, "age"] = np.nan
    patients = tables.read_patients(cases.write_cohort(frames, tmp_path / "cohort"))
    assert patients["is_female"].isna().tolist() == [i == 1 for i in range(40)]
    assert patients["age"].isna().tolist() == [i == 2 for i in range(40)]
    assert str(patients["event"].dtype) == "int8"
