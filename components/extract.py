"""Patch features of the slides of one shard."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def extract(  # noqa: D103
    params: str, key: str, shard: int, shards: int, cohort: dsl.Input[dsl.Dataset], features: dsl.Output[dsl.Dataset]
):
    from pathlib import Path

    from mcti.params import ExtractParams, from_json
    from mcti.steps.extract import extract as step

    section = from_json(ExtractParams, params, "parameter extract")
    result = step(f"{cohort.path}/slides.parquet", section, Path(features.path), shard=(shard, shards))
    features.metadata.update(result.headline())
