"""Expression tables of users: orientation, ids, samples."""

import numpy as np
import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.project import expression

IDS = ["TCGA-AA-0001", "TCGA-AA-0002", "TCGA-AA-0003"]
VALUES = pd.DataFrame({"G1": [1.0, 2.5, 3.0], "G2": [0.5, 0.25, 4.0]})


def propose(tmp_path, table, **form):
    table.to_csv(tmp_path / "genes.csv", index=False, **form)
    return expression.propose(tmp_path / "genes.csv", IDS)


def test_a_table_that_ingest_reads_is_not_converted(tmp_path):
    proposal = propose(tmp_path, VALUES.assign(patient_id=IDS))
    assert (proposal.table, proposal.genes, proposal.ids) == (None, 2, tuple(IDS))


def test_genes_in_rows_and_normal_samples(tmp_path):
    turned = VALUES.T.set_axis([f"{name}-01A" for name in IDS], axis=1)
    turned = turned.rename_axis("Hugo_Symbol").reset_index().assign(Entrez_Gene_Id=[1, 2])
    turned["TCGA-AA-0001-11A"] = [9.0, 9.0]
    proposal = propose(tmp_path, turned, sep="\t")
    assert proposal.ids == tuple(IDS)
    np.testing.assert_array_equal(proposal.table[["G1", "G2"]].astype(float).to_numpy(), VALUES.to_numpy())
    assert any(change.startswith("transposed: genes are in rows") for change in proposal.changes)


def test_an_id_column_of_another_name_is_renamed_and_written_as_parquet(tmp_path):
    proposal = propose(tmp_path, VALUES.assign(Patient=IDS), sep=";", decimal=",")
    expression.parquet(proposal.table, tmp_path / "out.parquet")
    written = pd.read_parquet(tmp_path / "out.parquet")
    assert written["patient_id"].tolist() == IDS
    assert written["G1"].dtype == np.float32
    np.testing.assert_array_equal(written[["G1", "G2"]], VALUES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (VALUES.assign(patient_id=["a", "b", "c"]), "no patient of the clinical table"),
        (VALUES.assign(patient_id=IDS, note=["1", "y", "z"]), r"no number \('y'\) .*patient TCGA-AA-0002, gene note"),
        (VALUES.assign(patient_id=[name.lower() for name in IDS]), "differ in case, leading zeros or separators"),
        (
            VALUES.assign(patient_id=[name.replace("-", ".") for name in IDS]),
            "differ in case, leading zeros or separators",
        ),
    ],
)
def test_tables_without_patients_or_with_words_are_one_error(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        propose(tmp_path, table)


def test_missing_values_are_nan_in_a_converted_table(tmp_path):
    table = VALUES.astype(object).assign(patient_id=IDS)
    table.loc[1, "G1"], table.loc[2, "G2"] = "NA", ""
    assert propose(tmp_path, table).table is None  # `ingest` reads it
    converted = propose(tmp_path, table, sep="\t").table
    np.testing.assert_array_equal(converted[["G1", "G2"]], [[1.0, 0.5], [np.nan, 0.25], [3.0, np.nan]])


def test_a_word_in_any_row_of_a_converted_table_is_an_error(tmp_path):
    """The scale is read from some rows only: the others are converted, too."""
    ids = [f"P{n}" for n in range(1000)]
    table = pd.DataFrame({"patient_id": ids, "G1": ["1.5"] * 1000})
    table.loc[997, "G1"] = "high"
    table.to_csv(tmp_path / "genes.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match=r"'high'.*patient P997, gene G1"):
        expression.propose(tmp_path / "genes.tsv", ids)


def test_columns_about_genes_and_rows_without_a_gene_are_left_out(tmp_path):
    table = VALUES.T.set_axis(IDS, axis=1).rename_axis("gene_id").reset_index()
    table.insert(1, "gene_name", ["TP53", "MYC"])
    table.insert(2, "Length", [1000, 2000])
    counters = [["__no_feature", "", "0", 9, 9, 9], ["N_unmapped", "", "0", 9, 9, 9], ["G1", "TP53", "1", 7, 7, 7]]
    table = pd.concat([table, pd.DataFrame(counters, columns=table.columns)])
    proposal = propose(tmp_path, table)
    assert (proposal.ids, proposal.genes) == (tuple(IDS), 2)
    np.testing.assert_array_equal(proposal.table[["G1", "G2"]], VALUES)
    assert proposal.changes == (
        "transposed: genes are in rows (2 of them)", "3 rows without a new gene name",
        "without the columns gene_name, Length",
    )  # fmt: skip


def test_ids_of_parquet_may_be_integers(tmp_path):
    VALUES.assign(patient_id=[11, 12, 13]).to_parquet(tmp_path / "genes.parquet")
    proposal = expression.propose(tmp_path / "genes.parquet", ["11", "12", "13"])
    assert (proposal.ids, proposal.table) == (("11", "12", "13"), None)
    with pytest.raises(DataError, match=r"'11' and '0011' differ in case, leading zeros"):
        expression.propose(tmp_path / "genes.parquet", ["0011", "0012", "0013"])
