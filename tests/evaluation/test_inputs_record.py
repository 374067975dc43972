"""What an evaluation records of its inputs."""

from mcti.evaluation import inputs_record
from mcti.evaluation.outcomes import Outcomes
from mcti.params import EvaluateParams
from tests.evaluation.factories import make_folds, make_patients


def spec(epochs, digest="d"):
    return {"params": {"epochs": epochs}, "digests": {"train": digest}}


def record(*specs):
    return inputs_record.record("OS", "made", EvaluateParams(), {"cohort": "c"}, specs)


def test_settings_and_digests_of_the_models_are_recorded():
    tree = record(spec(3), spec(3))
    assert (tree["endpoint"], tree["cohort"], tree["data"]["cohort"]) == ("OS", "made", "c")
    assert tree["settings"]["train"] == {"epochs": 3}
    assert tree["settings"]["evaluate"]["bootstrap"] == 1000
    assert tree["data"]["model inputs"] != record(spec(3), spec(3, "other"))["data"]["model inputs"]


def test_folds_with_settings_of_their_own_are_recorded_one_by_one():
    settings = record(spec(3), spec(5))["settings"]
    assert settings["train, fold 0"] == {"epochs": 3}
    assert settings["train, fold 1"] == {"epochs": 5}


def test_predictions_of_another_program_have_no_settings():
    tree = record()
    assert set(tree["settings"]) == {"evaluate"}
    assert set(tree["data"]) == {"cohort"}


def test_the_digest_of_the_folds_depends_on_the_assignment_of_patients():
    patients = make_patients(20)
    one, two = (Outcomes.from_folds(patients, make_folds(patients, count)) for count in (4, 5))
    again = Outcomes.from_folds(patients, make_folds(patients, 4))
    assert inputs_record.folds_md5(one) == inputs_record.folds_md5(again) != inputs_record.folds_md5(two)
