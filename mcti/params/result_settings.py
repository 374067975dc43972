"""The settings that a result depends on; a change of any other setting repeats no stage, fold or cached task.

One list serves all of these: the settings files on which the stages of dvc.yaml depend (`mcti settings`), the identity
of a trained fold and of a search study, and the cache keys of the pipelines.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcti.params.base import Params

if TYPE_CHECKING:  # the search space is checked with the lists of this module
    from mcti.params.settings import Settings

RESULT_NEUTRAL: Mapping[str, frozenset[str]] = {
    "extract": frozenset({"workers", "accept_licences", "cache", "cache_gib"}),
    "search": frozenset({"wait_minutes", "experiment"}),
    "train": frozenset({"workers", "checkpoint_seconds"}),
}
"""By section of params.yaml, the settings that do not change any bit of a result.

`train.device` and `train.threads` are not among them: another order of summation changes the last digits.
"""
VARIABLE = "MCTI_RESULT_NEUTRAL"
"""Environment variable with these settings of a pipeline, as JSON: {"section.name": value}.

Argo would replace the two braces at the end of a nested object. KFP's cache compares the parameters of a task, not its
environment: a change of these settings repeats no cached task.
"""
UNUSED_BY_SEARCH = frozenset({"epochs", "horizons_months", "recalibration_folds"})
"""Settings of `train` that no trial reads: it has `search.epochs`, one horizon and no recalibrated curves."""
STAGES = ("ingest", "validate", "extract", "split", "search", "train", "evaluate", "register")
"""The stages of dvc.yaml that read the section of params.yaml with their name."""


def result_settings(section: str, params: Params) -> dict[str, Any]:
    """The settings of a section as JSON values, without those that cannot change a result."""
    return params.model_dump(mode="json", by_alias=True, exclude=set(RESULT_NEUTRAL.get(section, ())))


def trial_settings(train: Params) -> dict[str, Any]:
    """The settings of `train` that a trial of the search depends on, as JSON values."""
    settings = result_settings("train", train)
    return {name: value for name, value in settings.items() if name not in UNUSED_BY_SEARCH}


def result_text(section: str, text: str) -> str:
    """A section as JSON text without the settings that cannot change a result; empty text stays empty."""
    if not text:
        return ""
    tree = json.loads(text)
    kept = {name: value for name, value in tree.items() if name not in RESULT_NEUTRAL.get(section, ())}
    return json.dumps(kept, sort_keys=True)


def neutral_text(settings: "Settings") -> str:
    """The settings that cannot change a result as JSON text: the value of VARIABLE."""
    flat = {
        f"{section}.{name}": value
        for section, names in RESULT_NEUTRAL.items()
        for name, value in getattr(settings, section).model_dump(mode="json", include=set(names)).items()
    }
    return json.dumps(flat, sort_keys=True)


def neutral_of(section: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a section in the value of VARIABLE: {name: value}."""
    return {name: flat[key] for name in RESULT_NEUTRAL.get(section, ()) if (key := f"{section}.{name}") in flat}


def stage_settings(settings: "Settings") -> dict[str, dict[str, Any]]:
    """By DVC stage, the settings that can change its result: {section: {name: JSON value}}, defaults filled in.

    A change of a default or of a preset in the code is a change of these settings, too.
    """
    sections = {field.alias or name: getattr(settings, name) for name, field in type(settings).model_fields.items()}
    stages = {stage: {stage: result_settings(stage, sections[stage])} for stage in STAGES}
    stages["search"]["train"] = trial_settings(settings.train)
    architecture = settings.train.complete_architecture()
    for stage in ("search", "train"):
        stages[stage]["train"] = stages[stage]["train"] | {"architecture": architecture}
    return stages
