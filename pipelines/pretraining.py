"""The pretraining pipeline: from the cohorts of train.sources to a registered model that other trainings start from."""

from typing import Any

from kfp import dsl

from mcti.components.utilities.outcome import outcome
from mcti.errors import UsageError
from mcti.params import Settings
from mcti.pipelines import stages
from mcti.pipelines.stages import Stages


def pretraining(settings: Settings, data: str = "", version: str = "") -> Any:
    """The pipeline of these settings: pretrain, validate, evaluate, register, promote.

    data        recorded with the model as the version of its sources; empty: model and cohort contain their digests
    version     of this pipeline, recorded with the model

    Raises
        UsageError: no source has features, or the evaluation lacks the baseline of the gates.
    """
    if not any(source.features for source in settings.train.sources):
        hint = "list the cohorts of the model, at least one of them with features"
        raise UsageError("a pretraining without slides", "params.yaml, key train.sources", hint)
    stages.require_gate_baseline(settings)
    parts = Stages(stages.cluster_of(settings), cache=False, version=version, external=settings.test)
    text = stages.sections_of(settings, "pretrain")

    @dsl.pipeline(
        name=f"{settings.cluster.pipeline}-pretraining",
        description="From several cohorts to a promoted model that trainings on other cohorts start from.",
        pipeline_config=parts.config,
    )
    def run(
        split: str = text["split"],
        train: str = text["train"],
        validate: str = text["validate"],
        evaluate: str = text["evaluate"],
        register: str = text["register"],
        promote: str = text["promote"],
        data: str = data,
    ) -> None:
        sections = {"evaluate": evaluate, "register": register, "promote": promote}
        keys = {"cohort": "", "best": "", "evaluation": ""}
        last = outcome(remote=settings.cluster.remote or "")
        with dsl.ExitHandler(parts.configure(last, "utility", cache=False), name="pretraining"):
            trained = parts.pretrain(train, split).outputs
            validated = parts.validate(validate, trained["cohort"], keys)
            parts.evaluate_and_promote(sections, trained, keys, validated, data)

    return run
