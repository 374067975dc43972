"""The step `split`: folds, excluded patients, leakage."""

import pandas as pd
import pytest

from mcti.cohort.folds import read_folds
from mcti.errors import DataError
from mcti.params import SplitParams
from mcti.steps.split import split
from tests.cohort import cases


@pytest.fixture
def cohort(tmp_path):
    return cases.write_cohort(cases.sources(), tmp_path / "cohort")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(cohort, tmp_path):
    texts = []
    for number, seed in enumerate([7, 7, 8]):
        split(cohort, None, SplitParams(seed=seed), tmp_path / f"{number}.csv")
        texts.append((tmp_path / f"{number}.csv").read_bytes())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_the_folds_file_has_the_columns_of_the_formats_page(cohort, tmp_path):
    result = split(cohort, None, SplitParams(folds=4, inner_folds=3, repeats=2), tmp_path / "folds.csv")
    frame = pd.read_csv(tmp_path / "folds.csv")
    assert list(frame.columns) == ["patient_id", "fold", "role", "inner"]
    assert len(frame) == 40 * 8
    assert result.folds == 8
    assert frame.loc[frame["role"] == "test", "inner"].isna().all()
    assert set(frame.loc[frame["role"] == "train", "inner"]) == {0, 1, 2}
    assert read_folds(tmp_path / "folds.csv").digest() == result.sha256


def test_patients_without_features_are_excluded_and_listed(cohort, tmp_path):
    features = tmp_path / "features"
    features.mkdir()
    rows = [{"slide_id": f"P-{i:04d}-1", "patient_id": f"P-{i:04d}", "status": "OK"} for i in range(40)]
    rows[3]["status"] = "NO_TISSUE"
    pd.DataFrame(rows).to_csv(features / "slides.csv", index=False)
    result = split(cohort, features, SplitParams(), tmp_path / "folds.csv")
    folds = read_folds(tmp_path / "folds.csv")
    assert result.excluded == {"no features of a slide": 1}
    assert "P-0003" not in set(folds.frame["patient_id"])
    kept = split(cohort, features, SplitParams(missing_modality="keep"), tmp_path / "kept.csv")
    assert kept.patients == 40


def test_features_of_another_cohort_are_refused(cohort, tmp_path):
    (tmp_path / "slides.csv").write_text("slide_id,patient_id,status\nx,Q-1,OK\n")
    with pytest.raises(DataError, match="no patient of the cohort has features"):
        split(cohort, tmp_path, SplitParams(), tmp_path / "folds.csv")
    assert not (tmp_path / "folds.csv").exists()


def test_one_profile_with_two_patient_ids_is_refused(tmp_path):
    frames = cases.sources()
    frames["expression"].iloc[5, 1:] = frames["expression"].iloc[9, 1:] + 1e-3  # a rounded copy
    cohort = cases.write_cohort(frames, tmp_path / "cohort")
    with pytest.raises(DataError, match="expression profile of 'P-0005' and 'P-0009'"):
        split(cohort, None, SplitParams(seed=1), tmp_path / "folds.csv")
    assert not (tmp_path / "folds.csv").exists()


def test_one_slide_with_two_patients_is_refused(tmp_path):
    frames = cases.sources()
    frames["slides"]["md5"] = [f"{i:032x}" for i in range(40)]
    frames["slides"].loc[5, "md5"] = frames["slides"].loc[9, "md5"]
    cohort = cases.write_cohort(frames, tmp_path / "cohort")
    with pytest.raises(DataError, match="slide contents"):
        split(cohort, None, SplitParams(seed=1), tmp_path / "folds.csv")


def test_a_missing_time_column_gets_the_most_similar_name(tmp_path):
    frames = cases.sources()
    frames["clinical"]["year_of_diagnosis"] = range(1980, 2020)
    cohort = cases.write_cohort(frames, tmp_path / "cohort")
    with pytest.raises(DataError, match="did you mean year_of_diagnosis"):
        split(cohort, None, SplitParams(scheme="time", time_column="year_diagnosis"), tmp_path / "folds.csv")


def test_a_changed_folds_file_is_refused(cohort, tmp_path):
    split(cohort, None, SplitParams(), tmp_path / "folds.csv")
    text = (tmp_path / "folds.csv").read_text()
    (tmp_path / "folds.csv").write_text(text.replace("train,0", "train,1", 1))
    with pytest.raises(DataError, match=r"folds\.json describes"):
        read_folds(tmp_path / "folds.csv")
