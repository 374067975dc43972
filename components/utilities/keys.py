"""What each result follows from, as one hash: KFP's cache compares parameters and does not look into artifacts."""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def keys(  # noqa: D103
    data: str, ingest: str, extract: str, split: str, search: str, train: str, evaluate: str
) -> NamedTuple("Keys", cohort=str, features=str, folds=str, best=str, evaluation=str):
    from mcti import versions

    return tuple(versions.stage_keys(data, ingest, extract, split, search + train, evaluate))
