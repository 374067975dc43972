"""The step `cache_keys`: one hash per result of a pipeline run of everything that the result depends on."""

from mcti import versions
from mcti.params import TrainParams, from_json
from mcti.params.result_settings import result_text
from mcti.registry.refusals import cache_refusals
from mcti.slides.feature_import import cache_text
from mcti.steps.list_sources import cache_text as cache_text_of_sources


@cache_refusals
def cache_keys(
    data: str, ingest: str, extract: str, split: str, search: str, train: str, evaluate: str
) -> tuple[str, ...]:
    """The keys of cohort, features, folds, best settings and evaluation.

    data    MD5 of the source tables;  the others  sections of params.yaml as JSON text
    Reads   the versions of ready-made features, where `extract` imports them, and of the sources and the prior of
            `train`
    Raises  DataError when there is no such set of features, source or prior, UsageError when a section is not valid
            OperationalError when the registry does not respond
    """
    best = result_text("search", search) + result_text("train", train) + _transfer_text(train)
    return tuple(versions.stage_keys(data, ingest, cache_text(extract), split, best, evaluate))


def _transfer_text(train: str) -> str:
    return cache_text_of_sources(from_json(TrainParams, train, "parameter train")) if train else ""
