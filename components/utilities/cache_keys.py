"""One hash per result of everything it depends on: KFP's cache compares parameters, not the contents of artifacts."""

from typing import NamedTuple

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def cache_keys(  # noqa: D103
    data: str, ingest: str, extract: str, split: str, search: str, train: str, evaluate: str
) -> NamedTuple("Keys", cohort=str, features=str, folds=str, best=str, evaluation=str):
    from mcti.steps.cache_keys import cache_keys as step

    return step(data, ingest, extract, split, search, train, evaluate)
