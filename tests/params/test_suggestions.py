"""Hints for unknown keys."""

import re
from pathlib import Path

import pytest

from mcti import params
from mcti.errors import UsageError
from mcti.params.architecture import FIELDS, ArchitectureParams
from mcti.params.suggestions import REMOVED, RENAMED, suggestion

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")


def renamed_in_changelog() -> dict[str, str]:
    """Earlier name -> new name of every setting in the two lists of the changelog."""
    lists = CHANGELOG.split("These settings have new names", 1)[1].split("* `train.architecture` is checked", 1)[0]
    lists = lists.partition("The optimizer `lean`")[0] + lists.partition("fields of `train.architecture`")[2]
    pairs = re.findall(r"`([\w.]+)`(?: with the values\s+`\w+` and `\w+`)?\s+\(`(\w+)(?::[^`]*)?`\)", lists)
    return {old: new.rpartition(".")[2] for new, old in pairs}


def test_the_table_holds_the_renamed_settings_of_the_changelog():
    table = {old: new for names in RENAMED.values() for old, new in names.items()}
    assert len(table) == 18
    assert table == renamed_in_changelog()


def test_each_new_name_is_a_setting_of_its_class():
    for name, names in RENAMED.items():
        model = getattr(params, name)
        fields = FIELDS if model is ArchitectureParams else {f.alias or n: f for n, f in model.model_fields.items()}
        assert set(names.values()) <= set(fields)
        assert not set(names) & set(fields)


def test_no_removed_setting_is_one_of_its_class():
    for name, names in REMOVED.items():
        assert not names & set(getattr(params, name).model_fields)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("train.linear_share", "did you mean cox_weight?"),
        ("search.minutes", "did you mean timeout_minutes?"),
        ("cluster.steps.wiring.cpu", "did you mean utility?"),
        ("train.architecture.gate", "did you mean soft_instance_gate?"),
        ("train.dropout", "did you mean train.architecture.dropout?"),
        ("train.folds", "did you mean split.folds?"),
        ("train.architecture.learning_rate", "did you mean train.learning_rate?"),
        ("evaluate.min_events", "did you mean validate.min_events or promote.min_events or monitor.min_events?"),
        ("train.lerning_rate", "did you mean learning_rate?"),
        ("train.horizons", "did you mean horizons_months?"),
        ("sarch.trials", "did you mean search?"),
        ("train.minutes", "known: seed, preset, "),
        ("train.share", "known: seed, preset, "),
    ],
)
def test_the_hint_names_the_new_name_or_the_setting_elsewhere_or_a_similar_one(key, hint):
    with pytest.raises(UsageError) as caught:
        params.load(None, [f"{key}=1"])
    assert caught.value.hint.startswith(hint)


def test_the_hint_of_a_section_alone_has_its_own_names_only():
    assert suggestion(params.SearchParams, (), "prune_p") == "did you mean wilcoxon_p_threshold?"
    assert suggestion(params.SearchParams, (), "folds").startswith("known: seed, trials")
