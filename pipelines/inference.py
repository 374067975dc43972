"""The inference pipeline: predictions, explanations and heatmaps for a batch of new patients."""

from typing import Any

from kfp import dsl

from mcti.components.explain import explain as explain_component
from mcti.components.predict import predict as predict_component
from mcti.components.utilities.heatmaps import heatmaps
from mcti.components.utilities.outcome import outcome
from mcti.params import Settings
from mcti.pipelines import stages
from mcti.pipelines.stages import Stages


def inference(settings: Settings, data: str, version: str = "") -> Any:
    """The pipeline of these settings: `ingest` names the tables of the new patients, `model` the registered model.

    data        MD5 of the new patients' tables as DVC recorded it; empty when they are under no version control
    version     of this pipeline, recorded with its results
    """
    stages.require_slides(settings)
    parts, text = Stages(stages.cluster_of(settings), cache=bool(data), version=version), stages.sections_of(settings)
    champion = f"models:/{settings.register_.name}@champion"

    @dsl.pipeline(
        name=f"{settings.cluster.pipeline}-inference",
        description="Predictions, explanations and heatmaps for new patients.",
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
        with dsl.ExitHandler(parts.configure(last, "utility", cache=False), name="inference"):
            keys, cohort = parts.keys({"ingest": ingest, "extract": extract}, data), parts.sources(ingest, data)
            inputs = {"cohort": cohort, "features": parts.features(extract, cohort, keys)}
            # The alias may have moved since the last run: predictions are never taken from the cache.
            predicted = parts.configure(
                predict_component(params=predict, model=model, **inputs), "predict", cache=False
            )
            explained = explain_component(params=explain, model=model, patient_ids=[], **inputs)
            explanation = parts.configure(explained, "explain", cache=False).after(predicted).outputs["explanation"]
            with dsl.ParallelFor(items=parts.shards, name="slides") as shard:
                images = heatmaps(shard=shard, shards=len(parts.shards), explanation=explanation, **inputs)
                parts.configure(images, "explain", cache=False)
            published = parts.publish(predictions=predicted.outputs["predictions"], explanation=explanation)
            parts.conclude("new patients predicted", after=[images, *published])

    return run
