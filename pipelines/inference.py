"""The inference pipeline: a batch of new patients to predictions, explanations and heatmaps."""

from typing import Any

from kfp import dsl

from components.explain import explain as explain_component
from components.predict import predict as predict_component
from components.utilities.heatmaps import heatmaps
from components.utilities.outcome import outcome
from mcti.params import Settings
from pipelines import stages
from pipelines.stages import Stages


def inference(settings: Settings, data: str, version: str = "") -> Any:
    """The pipeline of these settings: `ingest` names the tables of the new patients, `model` who answers for them.

    data        MD5 of the new patients' tables as DVC knows them; empty when they are under no version control
    """
    stages.need_slides(settings)
    parts, text = Stages(settings.cluster, cache=bool(data), version=version), stages.sections_of(settings)
    champion = f"models:/{settings.register_.name}@champion"

    @dsl.pipeline(
        name=f"{settings.cluster.pipeline}-inference",
        description="New patients to predictions and heatmaps.",
        pipeline_config=parts.config,
    )
    def run(
        ingest: str = text["ingest"],
        extract: str = text["extract"],
        predict: str = text["predict"],
        explain: str = text["explain"],
        model: str = champion,
        data: str = data,
    ) -> None:
        last = outcome(remote=settings.cluster.remote or "")
        with dsl.ExitHandler(parts.place(last, "wiring", cache=False), name="inference"):
            keys, cohort = parts.keys({"ingest": ingest, "extract": extract}, data), parts.sources(ingest, data)
            inputs = {"cohort": cohort, "features": parts.features(extract, cohort, keys)}
            # The alias may have moved since the last run: what the model says is never taken from the cache.
            said = parts.place(predict_component(params=predict, model=model, **inputs), "predict", cache=False)
            why = parts.place(
                explain_component(params=explain, model=model, patient_ids=[], **inputs), "explain", cache=False
            )
            explanation = why.after(said).outputs["explanation"]
            with dsl.ParallelFor(items=parts.shards, name="slides") as shard:
                drawn = heatmaps(shard=shard, shards=len(parts.shards), explanation=explanation, **inputs)
                parts.place(drawn, "explain", cache=False)
            published = parts.publish(predictions=said.outputs["predictions"], explanation=explanation)
            parts.concluded("new patients predicted", after=[drawn, *published])

    return run
