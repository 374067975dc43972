"""TCGA barcodes, tumour samples, and columns of a layout."""

import pandas as pd
import pytest

from mcti.cohort import layouts
from mcti.cohort.raw_tables import RawTable
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams


def test_a_barcode_has_patient_and_site():
    assert layouts.patient_from_barcode("TCGA-3C-AALI-01Z-00-DX1") == "TCGA-3C-AALI"
    assert layouts.patient_from_barcode("P-1") == "P-1"
    assert (layouts.site_from_barcode("TCGA-3C-AALI-01"), layouts.site_from_barcode("P-1")) == ("3C", "")


@pytest.mark.parametrize(
    ("barcode", "cells", "expected"),
    [("TCGA-3C-AALI-01", (), True), ("TCGA-3C-AALI-11", (), False), ("P-1", (), True), ("P-1", ("Normal",), False),
     ("TCGA-3C-AALI-11", ("Primary Tumor",), True)],
)  # fmt: skip
def test_the_tissue_is_that_of_the_table_else_of_the_barcode(barcode, cells, expected):
    assert layouts.is_tumour(barcode, cells) is expected


@pytest.mark.parametrize(
    "cell",
    ["Solid Tissue Normal", "NORMAL_TISSUE", "adjacent_normal", "Normal Adjacent Tissue (NAT)", "Peri-tumoral",
     "Non-tumor", "non_neoplastic tissue", "Nonmalignant", "Control Analyte", "healthy donor", "Uninvolved lung"],
)  # fmt: skip
def test_tissue_that_is_no_tumour_is_recognised_in_each_wording(cell):
    assert not layouts.is_tumour("P-1", (cell,))


@pytest.mark.parametrize(
    "cell",
    ["Primary Tumor", "Metastatic", "Recurrent Blood Derived Cancer - Bone Marrow", "Abnormal", "Tumor", "Unknown",
     "Combination of natural and primary", "Primary Xenograft Tissue", ""],
)  # fmt: skip
def test_other_words_are_no_normal_tissue(cell):
    assert layouts.is_tumour("P-1", (cell,))


@pytest.mark.parametrize(
    "columns",
    [("Tissue Type", "Sample Type"), ("tissue_type.samples", "sample_type.samples"), ("TISSUE TYPE", "Sample_Type"),
     ("cases.samples.tissue_type", "cases.samples.sample_type"), ("SAMPLE_CLASS", "SAMPLE_TYPE")],
)  # fmt: skip
def test_the_columns_of_the_tissue_are_recognised_in_each_spelling(columns):
    frame = pd.DataFrame({"id": ["a"], columns[1]: ["Primary Tumor"], columns[0]: ["Normal"]})
    assert layouts.tissue_cells_by_row(frame) == [("Normal", "Primary Tumor")]


def test_one_tumour_sample_per_patient_is_selected():
    selected, excluded = layouts.select_samples(
        ["b", "a", "n"], ["P", "P", "P"], [("Metastatic",), ("Primary",), ("Normal",)]
    )
    assert selected == [1]
    assert [(sample.patient_id, sample.reason) for sample in excluded] == [
        ("n", layouts.NOT_TUMOUR), ("b", layouts.DUPLICATE_SAMPLE)]  # fmt: skip


def test_unknown_columns_of_the_settings_are_refused():
    table = RawTable(pd.DataFrame({"id": ["a"]}), "f", [2])
    with pytest.raises(UsageError, match="'sitee' is not a canonical column"):
        layouts.select_columns(table, {}, IngestParams(columns={"sitee": "id"}))
    with pytest.raises(DataError, match=r"column 'ID', set in ingest\.columns\.site, is missing"):
        layouts.select_columns(table, {}, IngestParams(columns={"site": "ID"}))


def test_exactly_one_file_must_match():
    assert layouts.file_named(["a_survival.txt", "b"], "survival", "folder") == "a_survival.txt"
    with pytest.raises(DataError, match="0 files have 'x' in their name"):
        layouts.file_named(["a"], "x", "folder")
