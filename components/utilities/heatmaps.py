"""Heatmaps of the slides of one shard."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def heatmaps(  # noqa: D103
    shard: int, shards: int, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    explanation: dsl.Input[dsl.Artifact], images: dsl.Output[dsl.Artifact],
):  # fmt: skip
    from pathlib import Path

    from mcti.steps.heatmaps import heatmaps as step

    out = Path(images.path)
    result = step(cohort.path, features.path, explanation.path, out, shard=(shard, shards))
    images.metadata.update(result.model_dump(mode="json"))
