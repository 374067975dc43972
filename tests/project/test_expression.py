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
        (VALUES.assign(patient_id=IDS, note=["x", "y", "z"]), "a cell is no number"),
    ],
)
def test_tables_without_patients_or_with_words_are_one_error(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        propose(tmp_path, table)
