"""predict: a folder of folds on a cohort, in batch and alone."""

import json

import pandas as pd
import pytest

from mcti.cohort import tables
from mcti.errors import DataError
from mcti.steps.predict import frame, predict
from mcti.steps.train import train
from tests.training.made import GENES, WIDTH, folders, settings


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("a world")
    cohort, features, folds = folders(root)
    train(cohort, features, folds, settings(epochs=1, workers=1), root / "models")
    return root, cohort, features


def out_of_fold(root):
    parts = [pd.read_csv(path, dtype=str) for path in sorted((root / "models").glob("fold_*/predictions.csv"))]
    return pd.concat(parts).set_index("patient_id")["risk"]


def test_the_development_cohort_gets_its_out_of_fold_risks_to_the_bit(world, tmp_path):
    root, cohort, features = world
    result = predict(str(root / "models"), cohort, features, tmp_path / "out.csv")
    ours = pd.read_csv(tmp_path / "out.csv", dtype=str).set_index("patient_id")["risk"]
    assert ours.to_dict() == out_of_fold(root).to_dict()
    assert result.patients == result.known == len(ours)


def test_json_holds_the_same_rows_as_csv(world, tmp_path):
    root, cohort, features = world
    predict(str(root / "models"), cohort, features, tmp_path / "out.csv")
    predict(str(root / "models"), cohort, features, tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())
    table = pd.read_csv(tmp_path / "out.csv", float_precision="round_trip")
    assert rows == table.to_dict("records")


def test_progress_counts_every_patient(world, tmp_path):
    root, cohort, features = world
    seen = []
    predict(str(root / "models"), cohort, features, tmp_path / "o.csv", progress=lambda *told: seen.append(told[:2]))
    assert seen == [(n, 24) for n in range(1, 25)]


def test_a_cohort_without_a_gene_of_the_model_is_refused_with_patient_and_gene(world, tmp_path):
    root, cohort, features = world
    other = tmp_path / "cohort"
    other.mkdir()
    expression = tables.read_expression(cohort)[list(GENES[1:])]
    whole = tables.Cohort(
        tables.read_patients(cohort), expression, tables.read_slides(cohort), tables.read_info(cohort)
    )
    tables.write(whole, other)
    with pytest.raises(DataError, match=r"gene 'g0' is missing.*P-000"):
        predict(str(root / "models"), other, features, tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()


def test_without_features_a_model_of_slides_says_so(world, tmp_path):
    root, cohort, _ = world
    with pytest.raises(DataError, match="no slides, and the model was trained on patients with both"):
        predict(str(root / "models"), cohort, None, tmp_path / "o.csv")


def test_a_place_without_a_model_is_refused(world, tmp_path):
    _, cohort, features = world
    with pytest.raises(DataError, match="no such folder"):
        predict(str(tmp_path / "nowhere"), cohort, features, tmp_path / "o.csv")


def test_the_frame_of_the_served_model_holds_every_patient_whole(world):
    _, cohort, features = world
    rows = frame(cohort, features)
    assert list(rows.columns) == ["patient_id", "genes", "features", "covariates"]
    assert rows["genes"].map(set).eq(set(GENES)).all()
    assert rows["features"].map(lambda bag: {len(patch) for patch in bag} == {WIDTH}).all()
