"""Settings that cannot change a result: DVC stages, cache keys and fold identities leave the same ones out."""

import json

import pytest

from mcti import params
from mcti.components.utilities.cache_keys import cache_keys
from mcti.errors import UsageError
from mcti.params import SearchParams, Settings, TrainParams
from mcti.params.architecture import FIELDS
from mcti.params.result_settings import (
    RESULT_NEUTRAL,
    VARIABLE,
    neutral_text,
    result_settings,
    result_text,
    stage_settings,
    trial_settings,
)


def test_each_result_neutral_setting_exists():
    for section, names in RESULT_NEUTRAL.items():
        assert names <= set(getattr(Settings(), section).model_dump()), section


def test_result_settings_are_equal_for_other_workers_and_differ_for_another_rate():
    one = result_settings("train", TrainParams(workers=3, checkpoint_seconds=1.0))
    assert one == result_settings("train", TrainParams())
    assert one != result_settings("train", TrainParams(learning_rate=0.1))
    assert "workers" not in one
    assert trial_settings(TrainParams(epochs=9)) == trial_settings(TrainParams(workers=2))
    assert trial_settings(TrainParams(alpha=0.5)) != trial_settings(TrainParams())


def test_pipeline_keys_do_not_depend_on_result_neutral_settings():
    def best(search: SearchParams, train: TrainParams) -> str:
        return cache_keys.python_func("md5", "{}", "{}", "{}", search.model_dump_json(), train.model_dump_json(), "{}")[
            3
        ]

    usual = best(SearchParams(), TrainParams())
    assert best(SearchParams(wait_minutes=5), TrainParams(workers=3)) == usual
    assert best(SearchParams(trials=9), TrainParams()) != usual
    assert best(SearchParams(), TrainParams(device="cpu")) != usual, "another device changes the last digits"


def test_result_text_keeps_everything_else():
    assert json.loads(result_text("train", '{"workers": 2, "seed": 7}')) == {"seed": 7}
    assert json.loads(result_text("ingest", '{"workers": 2}')) == {"workers": 2}
    assert result_text("train", "") == ""


def test_a_parameter_has_precedence_over_the_environment(monkeypatch):
    monkeypatch.setenv(VARIABLE, neutral_text(params.load(None, ["train.workers=3", "extract.workers=5"])))
    assert params.from_json(TrainParams, "{}", "x").workers == 3
    assert params.from_json(TrainParams, '{"workers": 2}', "x").workers == 2
    assert params.from_json(params.ExtractParams, "{}", "x").workers == 5
    assert params.from_json(params.SplitParams, "{}", "x") == params.SplitParams()
    monkeypatch.setenv(VARIABLE, "{")
    with pytest.raises(UsageError, match=r"not JSON .* in MCTI_RESULT_NEUTRAL"):
        params.from_json(TrainParams, "{}", "x")


def changed_stages(*overrides: str) -> set[str]:
    before, after = stage_settings(params.load(None)), stage_settings(params.load(None, overrides))
    return {stage for stage in before if before[stage] != after[stage]}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("train.workers=2", set()),
        ("train.checkpoint_seconds=1", set()),
        ("search.wait_minutes=5", set()),
        ("search.experiment=other", set()),
        ("extract.workers=3", set()),
        ("extract.cache=/cache", set()),
        ("promote.margin=0.01", set()),
        ("cluster.image=x@sha256:1", set()),
        ("train.epochs=9", {"train"}),
        ("train.horizons_months=[12]", {"train"}),
        ("train.alpha=0.9", {"search", "train"}),
        ("train.device=cpu", {"search", "train"}),
        ("train.architecture.width=64", {"search", "train"}),
        ("train.architecture.missing=false", {"search", "train"}),
        ("train.preset=tiny", {"search", "train"}),
        ("train.bins.count=5", {"search", "train"}),
        ("search.space={alpha: [0.1, 0.9]}", {"search"}),
        ("search.trials=9", {"search"}),
        ("extract.tile=512", {"extract"}),
        ("extract.tissue.min_area_mm2=0.1", {"extract"}),
        ("ingest.notice=a notice", {"ingest"}),
        ("validate.min_events=21", {"validate"}),
        ("split.seed=8", {"split"}),
        ("evaluate.bootstrap=100", {"evaluate"}),
        ("register.name=other", {"register"}),
    ],
)
def test_a_setting_changes_the_files_of_exactly_the_stages_that_read_it(override, stages):
    assert changed_stages(override) == stages


@pytest.mark.parametrize("override", ["train=", "search=", "train.bins=", "train.architecture=", "train.epochs=4"])
def test_a_default_may_be_stated_or_left_out(override):
    assert changed_stages(override) == set()


def test_a_field_of_the_architecture_with_the_value_of_its_preset_changes_nothing():
    assert changed_stages("train.architecture={width: 32, heads: 1, encoder_depths: [1]}") == set()


def test_the_settings_of_a_stage_hold_each_field_of_the_architecture_with_its_value():
    """A preset that other code defines is then another setting. Values of `tiny`: docs/params.md."""
    architecture = stage_settings(params.load(None, ["train.preset=tiny"]))["train"]["train"]["architecture"]
    assert set(architecture) == set(FIELDS)
    assert (architecture["width"], architecture["query"], architecture["head"]) == (16, 8, "discrete")
    assert architecture["missing"] is architecture["modalities"] is None, "training takes them from its patients"
