"""One hash per result of everything it depends on: KFP's cache compares parameters, not the contents of artifacts."""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def cache_keys(  # noqa: D103
    data: str, ingest: str, extract: str, split: str, search: str, train: str, evaluate: str
) -> NamedTuple("Keys", cohort=str, features=str, folds=str, best=str, evaluation=str):
    from mcti import versions
    from mcti.params.result_settings import result_text
    from mcti.slides.feature_import import cache_text

    best = result_text("search", search) + result_text("train", train)
    return tuple(versions.stage_keys(data, ingest, cache_text(extract), split, best, evaluate))
