"""Published folds in MCAT split files."""

import pandas as pd
import pytest

from mcti.cohort import folds, split_files
from mcti.errors import DataError, UsageError
from mcti.params import SplitParams
from tests.cohort.cases import patient_table


def test_mcat_split_files_are_used_unchanged(tmp_path):
    frame = patient_table(patients=40)
    ids = frame["patient_id"].tolist()
    for k in range(2):
        test = ids[20 * k : 20 * k + 20]
        train = [p for p in ids if p not in test]
        pd.DataFrame({"train": pd.Series(train), "val": pd.Series([*test[:-1], "UNKNOWN"])}).to_csv(
            tmp_path / f"splits_{k}.csv"
        )
    assigned = folds.assign_folds(frame, SplitParams(scheme="files", files=str(tmp_path)))
    assert assigned.numbers == [0, 1]
    assert assigned.test_patients(0) == ids[:19]
    assert assigned.train_patients(1) == ids[:20]


def test_mcat_split_file_with_a_patient_in_both_parts_is_refused(tmp_path):
    (tmp_path / "splits_0.csv").write_text(",train,val\n0,P-0000,P-0001\n1,P-0001,\n")
    with pytest.raises(DataError, match=r"'P-0001' is in train and in val in .*splits_0.csv"):
        folds.assign_folds(patient_table(), SplitParams(scheme="files", files=str(tmp_path)))


def test_positions_are_those_of_the_patients_of_the_cohort(tmp_path):
    (tmp_path / "splits_1.csv").write_text(",train,val\n0,b,a\n1,unknown,\n")
    ((train, test),) = split_files.read(tmp_path, ["a", "b", "c"])
    assert (train.tolist(), test.tolist()) == ([1], [0])


def test_a_missing_folder_setting_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(UsageError, match="needs a folder"):
        split_files.read(None, ["a"])
    with pytest.raises(DataError, match="no splits_<number>"):
        split_files.read(tmp_path, ["a"])
