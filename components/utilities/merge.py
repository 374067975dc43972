"""Merge the outputs of parallel tasks into one folder."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def merge_features(  # noqa: D103
    params: str, key: str, parts: dsl.Input[list[dsl.Dataset]], whole: dsl.Output[dsl.Dataset]
):
    from pathlib import Path

    from mcti.params import ExtractParams, from_json
    from mcti.steps.extract import merge_shards as join_tables
    from mcti.steps.merge import merge

    merge([part.path for part in parts], Path(whole.path))
    join_tables(Path(whole.path), from_json(ExtractParams, params, "parameter extract"), len(parts))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def merge_models(key: str, parts: dsl.Input[list[dsl.Model]], whole: dsl.Output[dsl.Model]):  # noqa: D103
    from pathlib import Path

    from mcti.steps.merge import merge

    merge([part.path for part in parts], Path(whole.path))
