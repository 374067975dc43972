"""The settings that a result depends on; a change of any other setting repeats no stage, fold or cached task.

One list serves all of these: the `params:` of dvc.yaml (a test compares them), the identity of
a trained fold and of a search study, and the cache keys of the pipelines.
"""

import json
from collections.abc import Mapping
from typing import Any

from mcti.params.base import Params
from mcti.params.settings import Settings

RESULT_NEUTRAL: Mapping[str, frozenset[str]] = {
    "extract": frozenset({"workers", "accept_licences", "cache", "cache_gib"}),
    "search": frozenset({"wait_minutes", "experiment"}),
    "train": frozenset({"workers", "checkpoint_seconds"}),
}
"""By section of params.yaml, the settings that do not change any bit of a result.

`train.device` and `train.threads` are not among them: another order of summation changes the last digits.
"""
UNUSED_BY_SEARCH = frozenset({"epochs", "horizons_months", "recalibration_folds"})
"""Settings of `train` that no trial reads: it has `search.epochs`, one horizon and no recalibrated curves."""


def result_settings(section: str, params: Params) -> dict[str, Any]:
    """The settings of a section as JSON values, without those that cannot change a result."""
    return params.model_dump(mode="json", exclude=set(RESULT_NEUTRAL.get(section, ())))


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


def stage_keys(stage: str) -> list[str]:
    """The dotted keys of params.yaml that the DVC stage `search` or `train` depends on, sorted."""
    sections = {"search": ("search", "train"), "train": ("train",)}[stage]
    keys = [f"{name}.{field}" for name in sections for field in _result_fields(name)]
    return sorted(key for key in keys if stage == "train" or key.removeprefix("train.") not in UNUSED_BY_SEARCH)


def _result_fields(section: str) -> list[str]:
    model = Settings.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, Params)
    return [name for name in model.model_fields if name not in RESULT_NEUTRAL[section]]
