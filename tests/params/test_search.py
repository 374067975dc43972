"""The search space: each entry is checked against the setting of train when the file is loaded."""

import pytest

from mcti import params
from mcti.cli import command_context
from mcti.cli.app import app
from mcti.errors import UsageError
from mcti.params import SearchParams, TrainParams
from mcti.params.search import check_space, fault, is_range

LOG = "set 0 < low < high, since a range is searched on a log scale, or list three or more choices"


@pytest.mark.parametrize(
    ("space", "what", "hint"),
    [
        ("{cox_weight: [0, 1]}", "search.space has [0, 1] for cox_weight, no range", LOG),
        ("{alpha: [0.9, 0.1]}", "search.space has [0.9, 0.1] for alpha, no range", LOG),
        (
            "{dropout: [0.1, 0.2]}",
            "search.space names 'dropout', no setting of train",
            "did you mean architecture.dropout?",
        ),
        ("{cox_weight: [0.1, 2]}", "search.space has 2 for cox_weight", "less than or equal to 1"),
        ("{cox_weight: [0.1, 0.5, 2]}", "search.space has 2 for cox_weight", "less than or equal to 1"),
        ("{alpha: [.nan, 1]}", "search.space has nan for alpha", "input should be"),
        ("{alpha: [a, b]}", "search.space has 'a' for alpha", "valid number"),
        ("{batch_patients: [8.0, 16.0]}", "search.space has 8.0 for batch_patients", "valid integer"),
        ("{alpha: [0.5]}", "search.space has [0.5] for alpha, fewer than two values", "three or more choices"),
        ("{alpha: []}", "search.space has [] for alpha, fewer than two values", "three or more choices"),
        ("{seed: [1, 1, 2]}", "search.space has [1, 1, 2] for seed, a repeated value", "list each value once"),
        ("{alpha: 0.5}", "search.space has 0.5 for alpha", "set [low, high]"),
        ("{alpha: }", "search.space has None for alpha", "set [low, high]"),
        ("{workers: [1, 2]}", "search.space names 'workers', which does not change the score of a trial", "in train"),
        ("{recalibration_folds: [2, 3]}", "search.space names 'recalibration_folds', which does not", "in train"),
        ("{horizons_months: [[1], [2]]}", "search.space names 'horizons_months', which does not", "in train"),
        (
            "{architecture.guidance: [true, false]}",
            "'architecture.guidance', which is no number and no word",
            "in train",
        ),
        ("{architecture.encoder_depths: [[1], [2]]}", "'architecture.encoder_depths', which is no number", "in train"),
        ("{architecture.heads: [1, 4]}", "search.space has 3 for architecture.heads", "a divisor of width 32"),
        ("{optimizer: [adamw, bf16_adafactor]}", "search.space has 'bf16_adafactor' for optimizer", "needs bf16"),
        ("{preset: [snn, sn]}", "search.space has 'sn' for preset", "input should be 'paper'"),
        ("{1: [2, 3]}", "search.space names '1', no setting of train", "known: seed"),
    ],
)
def test_an_entry_that_no_trial_can_have_is_one_error(space, what, hint):
    with pytest.raises(UsageError) as caught:
        params.load("params.yaml", [f"search.space={space}"])
    assert what in caught.value.what
    assert caught.value.where == "--set, key search.space"
    assert hint in caught.value.hint


@pytest.mark.parametrize("command", [["search", "--folds", "README.md"], ["ingest"]])
def test_the_space_is_checked_under_dry_run_by_every_command(command, tmp_path, capsys):
    words = [*command, "--out", str(tmp_path / "out"), "--dry-run", "--set", "search.space={cox_weight: [0, 1]}"]
    words += ["--cohort", "README.md"] if command[0] == "search" else []
    assert command_context.run_app(app, words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: search.space has [0, 1] for cox_weight, no range in --set, key search.space: set 0 <"
    )


def test_a_range_has_the_type_of_its_setting():
    """Two whole numbers for a setting that is not whole are no range of whole numbers."""
    space = params.load(None, ["search.space={clip_norm: [1, 5], batch_patients: [16, 64]}"]).search.space
    assert [type(value) for value in space["clip_norm"]] == [float, float]
    assert [type(value) for value in space["batch_patients"]] == [int, int]


def test_choices_and_ranges_that_training_accepts_are_kept():
    text = "{cox_weight: [0, 0.5, 1], survival_loss: [nll, cox], epochs: [2, 8], preset: [snn, abmil, compact]}"
    assert params.load(None, [f"search.space={text}"]).search.space == {
        "cox_weight": [0.0, 0.5, 1.0],
        "survival_loss": ["nll", "cox"],
        "epochs": [2, 8],
        "preset": ["snn", "abmil", "compact"],
    }


def test_an_empty_space_has_the_default():
    assert params.load(None, ["search.space="]).search == SearchParams()


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.preset=snn", "search.space={architecture.heads: [1, 2, 4]}"],
        ["train.architecture.covariates=[age]", "search.space={preset: [compact, snn], architecture.heads: [1, 2, 4]}",
         "train.preset=abmil"],
    ],
)  # fmt: skip
def test_a_field_that_the_preset_does_not_read_is_refused(overrides):
    with pytest.raises(
        UsageError, match=r"for architecture.heads.*preset (snn|abmil) does not read heads: it reads width"
    ):
        params.load(None, overrides)


def test_a_long_range_of_whole_numbers_is_checked_at_its_ends():
    check_space({"bag_cap": [1, 10**9]}, TrainParams())
    with pytest.raises(ValueError, match=r"search.space has 1000000001 for bins.count"):
        check_space({"bins.count": [2, 10**9 + 1]}, TrainParams())


def test_two_numbers_are_a_range_and_two_words_are_choices():
    assert is_range([1, 2.0])
    assert not is_range(["a", "b"])
    assert fault(["a", "b"]) is None
    assert fault([1.0, 2.0]) is None
