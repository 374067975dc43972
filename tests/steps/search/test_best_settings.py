"""best.yaml: one choice for all folds, or one for each."""

import pytest
import yaml

from mcti import storage
from mcti.cohort import tables
from mcti.cohort.folds import read_folds
from mcti.dataset.splits import REFIT
from mcti.errors import DataError
from mcti.evaluation import summary_text
from mcti.params import TrainParams
from mcti.steps.evaluate import search_use
from mcti.steps.evaluate.comparators import check_training
from mcti.steps.evaluate.evaluation import split_outcomes
from mcti.steps.search.best_settings import BestSettings
from mcti.steps.train import train
from tests.training import factories

GAIN = {"value": 0.01, "low": -0.02, "high": 0.04}


def part(outer: int, **settings) -> dict:
    inner = {"outer_fold": outer, "trials": 4, "c_index": 0.6, "start_c_index": 0.59, "gain": GAIN}
    return {"settings": settings, "inner": inner}


def write(path, tree) -> BestSettings:
    path.write_text(yaml.safe_dump(tree))
    return BestSettings.read(path)


NESTED = {"nested": {0: part(0, learning_rate=1e-3), 1: part(1, learning_rate=1e-2)}}


def test_one_search_gives_every_fold_the_same_settings(tmp_path):
    best = write(tmp_path / "best.yaml", part(0, learning_rate=0.02))
    assert [best.settings(TrainParams(), fold).learning_rate for fold in (0, 1, REFIT)] == [0.02] * 3
    assert best.record(1)["outer_fold"] == 0
    assert not best.record(1)["nested"]


def test_a_nested_search_gives_each_fold_its_own_and_the_refit_the_middle(tmp_path):
    tree = {
        k: part(k, learning_rate=rate, preset=word)
        for k, (rate, word) in enumerate([(0.01, "tiny"), (0.03, "compact"), (0.02, "tiny")])
    }
    best = write(tmp_path / "best.yaml", {"nested": tree})
    assert [best.settings(TrainParams(), fold).learning_rate for fold in (0, 1, 2)] == [0.01, 0.03, 0.02]
    refit = best.settings(TrainParams(), REFIT)
    assert (refit.learning_rate, refit.preset) == (0.02, "tiny")
    assert best.record(2)["outer_fold"] == 2
    with pytest.raises(DataError, match="no settings for outer fold 7"):
        best.settings(TrainParams(), 7)


@pytest.mark.parametrize("text", ["- 1\n", "settings: 3\n", "nested: {0: {}}\n", "[", "nested: []\n"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "best.yaml").write_text(text)
    with pytest.raises(DataError, match="no `settings` to read"):
        BestSettings.read(tmp_path / "best.yaml")


def test_the_models_record_their_search_and_the_patients_that_it_saw(tmp_path):
    """Two folds, settings searched in the training part of fold 0: that is the test part of fold 1, and all of it."""
    cohort, features, folds = factories.folders(tmp_path)
    split = read_folds(folds)
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(part(0, learning_rate=2e-3)))
    settings = factories.settings(workers=1, epochs=1)
    train(cohort, features, folds, settings, tmp_path / "one", best=tmp_path / "one.yaml")
    use = search_use.read(tmp_path / "one", split)
    assert use["seen"] == len(split.test_patients(1))
    assert use["patients"] == len(split.test_patients(0)) + len(split.test_patients(1))
    assert f"{use['seen']} of the {use['patients']} evaluated patients" in summary_text.search_sentences(use)[0]
    assert "0.010 [-0.020, 0.040]" in summary_text.search_sentences(use)[1]


def test_a_nested_search_reads_no_test_patient_and_its_folds_are_one_model_of_different_settings(tmp_path):
    cohort, features, folds = factories.folders(tmp_path)
    (tmp_path / "nested.yaml").write_text(yaml.safe_dump(NESTED))
    train(
        cohort,
        features,
        folds,
        factories.settings(workers=1, epochs=1),
        tmp_path / "nested",
        best=tmp_path / "nested.yaml",
    )
    rates = [
        storage.read_json(tmp_path / "nested" / f"fold_{k}" / "model.json")["params"]["learning_rate"] for k in (0, 1)
    ]
    assert rates == [1e-3, 1e-2]
    use = search_use.read(tmp_path / "nested", read_folds(folds))
    assert (use["nested"], use["seen"]) == (True, 0)
    outcomes = split_outcomes(tables.read_patients(cohort), read_folds(folds))
    check_training(tmp_path / "nested", outcomes)
    model = storage.read_json(tmp_path / "nested" / "fold_1" / "model.json")
    model["params"]["epochs"] = 9
    storage.write_json(tmp_path / "nested" / "fold_1" / "model.json", model)
    with pytest.raises(DataError, match=r"train\.epochs is 9 instead of 1"):
        check_training(tmp_path / "nested", outcomes)


def test_models_without_a_search_record_none(tmp_path):
    cohort, features, folds = factories.folders(tmp_path)
    train(cohort, features, folds, factories.settings(workers=1, epochs=1), tmp_path / "plain")
    assert search_use.read(tmp_path / "plain", read_folds(folds)) == {}
    assert "no record of a search" in summary_text.search_sentences({})[0]
