"""The training pipeline: from source tables to a registered version that the gates have evaluated."""

from typing import Any

from kfp import dsl

from mcti.components.utilities.outcome import outcome
from mcti.params import Settings
from mcti.pipelines import stages
from mcti.pipelines.stages import Stages


def training(settings: Settings, data: str, version: str = "") -> Any:
    """The pipeline of these settings.

    Its parameters are the sections of params.yaml as JSON text, and `data`, the version of the sources. Results are
    taken from the cache only where `data` names a version: without one, the source files may have changed.

    settings    resources, shards and image are fixed when the pipeline is compiled; a run may override the sections
    data        MD5 of the source data as DVC recorded it; empty when they are under no version control
    version     of this pipeline, recorded with the model
    """
    stages.require_slides(settings)
    stages.require_gate_baseline(settings)
    stages.require_study(settings)
    parts = Stages(stages.cluster_of(settings), cache=bool(data), version=version, external=settings.test)
    text = stages.sections_of(settings)

    @dsl.pipeline(
        name=f"{settings.cluster.pipeline}-training",
        description="From source tables to a promoted champion.",
        pipeline_config=parts.config,
    )
    def run(
        ingest: str = text["ingest"],
        validate: str = text["validate"],
        extract: str = text["extract"],
        split: str = text["split"],
        search: str = text["search"],
        train: str = text["train"],
        evaluate: str = text["evaluate"],
        register: str = text["register"],
        promote: str = text["promote"],
        data: str = data,
    ) -> None:
        sections = {"ingest": ingest, "extract": extract, "split": split, "search": search, "train": train}
        sections |= {"evaluate": evaluate, "register": register, "promote": promote}
        last = outcome(remote=settings.cluster.remote or "")
        with dsl.ExitHandler(parts.configure(last, "utility", cache=False), name="training"):
            keys, cohort = parts.keys(sections, data), parts.sources(ingest, data)
            validated = parts.validate(validate, cohort, keys)
            inputs = {"cohort": cohort, "features": parts.features(extract, cohort, keys, after=validated)}
            checked = parts.validate_features(validate, inputs, keys)
            parts.train_and_promote(sections, inputs, keys, (validated, checked), data)

    return run
