"""The file inputs.json of an evaluation: its endpoint, cohort, settings and data, for `mcti compare`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcti import storage
from mcti.evaluation.outcomes import Outcomes
from mcti.params import EvaluateParams

FILE = "inputs.json"


def record(
    endpoint: str, cohort: str, params: EvaluateParams, data: Mapping[str, str], specs: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The content of inputs.json.

    data    {input: digest};  specs  model.json of each fold, in the order of the folds; may be empty
    """
    return {
        "endpoint": endpoint,
        "cohort": cohort,
        "settings": {"evaluate": params.model_dump(mode="json"), **_train_settings(specs)},
        "data": {**data, **_model_inputs(specs)},
    }


def folds_md5(outcomes: Outcomes) -> str:
    """MD5 over the test patients of each fold."""
    rows = [[fold.number, sorted(outcomes.patient_ids[row] for row in fold.patients)] for fold in outcomes.folds]
    return storage.text_md5(storage.to_json(rows))


def _train_settings(specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The section `train`, or one per fold where a nested search chose other settings for each."""
    by_fold = [dict(spec.get("params", {})) for spec in specs]
    if not any(by_fold):
        return {}
    if all(settings == by_fold[0] for settings in by_fold):
        return {"train": by_fold[0]}
    return {f"train, fold {number}": settings for number, settings in enumerate(by_fold)}


def _model_inputs(specs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One digest over the inputs of every model: genes, patches, covariates and outcomes."""
    digests = [spec["digests"] for spec in specs if "digests" in spec]
    return {"model inputs": storage.text_md5(storage.to_json(digests))} if digests else {}
