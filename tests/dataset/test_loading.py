"""load_dataset, and clinical covariates from the table to the prediction."""

import math

import pandas as pd
import pytest
import torch

from mcti.cohort import tables
from mcti.dataset.loading import check_covariates, check_single_encoder, load_dataset
from mcti.errors import DataError
from mcti.params import PredictParams
from mcti.registry import ensemble_files
from mcti.steps.predict.step import frame, predict
from mcti.steps.train import train
from tests.training.factories import folders, settings


@pytest.fixture
def world(tmp_path):
    """A cohort whose ages differ, one of them missing, with a numeric and a written covariate of its own."""
    cohort, features, folds = folders(tmp_path)
    patients = tables.read_patients(cohort)
    patients["age"] = [math.nan, *range(41, 41 + len(patients) - 1)]
    patients["nodes"], patients["grade"] = 2.0, "G2"
    parts = tables.read_expression(cohort), tables.read_slides(cohort), tables.read_info(cohort)
    tables.write(tables.Cohort(patients, *parts), cohort)
    return cohort, features, folds


def test_covariates_come_by_name_and_missing_ones_as_none(world):
    bags = load_dataset(*world[:2]).bags
    assert bags["P-000"].categories == {"grade": "G2"}
    assert bags["P-000"].clinical == {"age": None, "is_female": 1.0, "nodes": 2.0, "grade": "G2"}
    assert bags["P-000"].covariates == {"age": None, "is_female": 1.0, "nodes": 2.0}
    assert bags["P-001"].covariates["age"] == 41.0


def test_competing_events_are_read_where_the_cohort_records_them(world):
    assert {bag.competing for bag in load_dataset(*world[:2]).bags.values()} == {None}
    patients = tables.read_patients(world[0])
    expected = (patients["event"] == 0) & (patients.index % 2 == 0)
    patients["competing"] = expected.astype("int8")
    parts = (read(world[0]) for read in (tables.read_expression, tables.read_slides, tables.read_info))
    tables.write(tables.Cohort(patients, *parts), world[0])
    bags = load_dataset(*world[:2]).bags
    assert {name: bag.competing for name, bag in bags.items()} == dict(
        zip(patients["patient_id"], expected.tolist(), strict=True)
    )
    assert "competing" not in bags["P-000"].clinical


def test_a_covariate_of_the_settings_that_is_absent_is_named(world):
    check_covariates(world[0], ("age", "is_female", "nodes", "grade"))
    with pytest.raises(DataError, match=r"no covariate 'node'.*did you mean nodes"):
        check_covariates(world[0], ("node",))
    with pytest.raises(DataError, match=r"no covariate 'grad'.*did you mean grade"):
        check_covariates(world[0], ("grad",))
    cohort, features, folds = world
    with pytest.raises(DataError, match="no covariate 'stage'"):
        train(cohort, features, folds, settings(architecture={"covariates": ["stage"]}), cohort.parent / "models")
    assert not (cohort.parent / "models").exists()


def test_a_model_with_covariates_predicts_its_cohort_to_the_bit_and_reads_them(world, tmp_path):
    cohort, features, folds = world
    architecture = {"covariates": ["age", "is_female"]}
    train(cohort, features, folds, settings(epochs=2, workers=1, architecture=architecture), tmp_path / "models")
    predict(str(tmp_path / "models"), cohort, features, PredictParams(), tmp_path / "out.csv")
    parts = [pd.read_csv(path, dtype=str) for path in sorted((tmp_path / "models").glob("fold_*/predictions.csv"))]
    trained = pd.concat(parts).set_index("patient_id")["risk"].to_dict()
    assert pd.read_csv(tmp_path / "out.csv", dtype=str).set_index("patient_id")["risk"].to_dict() == trained
    loaded, row = ensemble_files.load(tmp_path / "models"), frame(cohort, features).iloc[1]
    assert loaded.covariates == ("age", "is_female")
    patches = torch.tensor(row["features"])
    risks = [
        loaded.predict(row["patient_id"], patches, row["genes"], (12.0,), row["covariates"] | {"age": age})["risk"]
        for age in (41.0, 90.0)
    ]
    assert repr(risks[0]) == trained["P-001"]
    assert risks[0] != risks[1]
    unknown = loaded.predict("new", patches, row["genes"], (12.0,), {"age": None, "is_female": None})
    half = loaded.predict("new", patches, row["genes"], (12.0,), {"age": None, "is_female": 1.0})
    assert (unknown["missing"], half["missing"]) == ("clinical", "")
    with pytest.raises(DataError, match=r"'age' is absent.*provide age, is_female"):
        loaded.predict("new", patches, row["genes"], (12.0,), {})


def test_features_of_two_encoders_are_refused_and_one_is_reported():
    one, two = {"encoder": "hed44", "target_mpp": 0.5}, {"encoder": "uni", "target_mpp": 0.25}
    assert check_single_encoder([one, one], "features") == one
    assert check_single_encoder([one, {"encoder": "hed44", "target_mpp": 0.25}], "features")["target_mpp"] == [
        0.25,
        0.5,
    ]
    with pytest.raises(DataError, match=r"two encoders .encoder hed44 and uni. in features"):
        check_single_encoder([one, two], "features")


def test_a_requested_patient_who_is_not_in_the_cohort_is_named(world):
    assert list(load_dataset(*world[:2], patients=["P-003", "P-001"]).bags) == ["P-001", "P-003"]
    with pytest.raises(DataError, match=r"there is no patient 'P-01'.*did you mean"):
        load_dataset(*world[:2], patients=["P-01"])
