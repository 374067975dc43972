"""The training pipeline: from source tables to a promoted champion, or a champion kept."""

from typing import Any

from kfp import dsl

from components.evaluate import evaluate as evaluate_component
from components.extract import extract as extract_component
from components.ingest import ingest as ingest_component
from components.promote import promote as promote_component
from components.register import register as register_component
from components.search import search as search_component
from components.split import split as split_component
from components.train import train as train_component
from components.validate import validate as validate_component
from components.wiring.merge import merge_features, merge_models
from components.wiring.outcome import outcome
from mcti.errors import UsageError
from mcti.params import Settings
from pipelines import resources


def training(settings: Settings, data: str) -> Any:
    """The pipeline of these settings.

    Its parameters are the sections of params.yaml as JSON text, and `data`, the version of the sources. Results are
    taken from the cache only where `data` names a version: without one, the sources may have changed under their name.

    settings    resources, shards and image are fixed here; the sections are defaults that a run may override
    data        MD5 of the source data as DVC knows it; empty when they are under no version control
    """
    if settings.ingest.slides is None:
        raise UsageError("a cohort without slides", "params.yaml, key ingest.slides", "name the slide manifest")
    cluster, text = settings.cluster, _sections(settings)
    shards = list(range(cluster.extract_shards))
    known = bool(data)

    def place(task: dsl.PipelineTask, name: str, cache: bool = known) -> dsl.PipelineTask:
        return resources.place(task, name, cluster, cache=cache)

    @dsl.pipeline(name=cluster.pipeline, description="From source tables to a promoted champion.")
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
        with dsl.ExitHandler(place(outcome(), "wiring", cache=False), name="training"):
            cohort = place(ingest_component(params=ingest, data=data), "ingest").outputs["cohort"]
            valid = place(validate_component(params=validate, cohort=cohort), "validate")
            with dsl.ParallelFor(items=shards, name="shards") as shard:
                part = extract_component(params=extract, shard=shard, shards=len(shards), cohort=cohort)
                place(part.after(valid), "extract")
            features = merge_features(params=extract, parts=dsl.Collected(part.outputs["features"]))
            inputs = {"cohort": cohort, "features": place(features, "wiring").outputs["whole"]}
            dealt = place(split_component(params=split, **inputs), "split")
            inputs["folds"] = dealt.outputs["folds"]
            found = place(search_component(params=search, train=train, **inputs), "search")
            with dsl.ParallelFor(dealt.outputs["Output"], name="folds", parallelism=cluster.parallel_folds) as fold:
                model = train_component(params=train, fold=fold, best=found.outputs["best"], **inputs)
                place(model, "train")
            models = place(merge_models(parts=dsl.Collected(model.outputs["model"])), "wiring").outputs["whole"]
            judged = place(evaluate_component(params=evaluate, models=models, **inputs), "evaluate")
            reports = {"evaluation": judged.outputs["report"], "validation": valid.outputs["report"]}
            version = register_component(params=register, models=models, **reports)
            registered = place(version, "register", cache=False).outputs["version"]
            place(promote_component(params=promote, version=registered), "promote", cache=False)

    return run


def _sections(settings: Settings) -> dict[str, str]:
    """Each section of a step as JSON text; the same settings give the same text."""
    fields = type(settings).model_fields.items()
    return {
        field.alias or name: getattr(settings, name).model_dump_json(by_alias=True)
        for name, field in fields
        if name != "cluster"
    }
