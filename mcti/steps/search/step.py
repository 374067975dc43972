"""search: the winning training settings on the inner folds of one outer training part, or of each."""

from pathlib import Path
from typing import TYPE_CHECKING

from mcti.params import SearchParams, TrainParams
from mcti.progress import Progress
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:  # it imports torch and pandas
    from mcti.steps.search.record import NestedResult, SearchResult


class InitResult(StepResult):
    """The study that workers will open: its name, its trials ended or started, and its planned trials."""

    study: str
    trials: int
    planned: int


@logged
@cache_refusals
def search(
    cohort: Location,
    features: Location | None,
    folds: Location,
    params: SearchParams,
    train: TrainParams,
    out: Path,
    *,
    init: bool = False,
    progress: Progress | None = None,
) -> "SearchResult | NestedResult | InitResult":
    """Search the settings of training over the inner folds of one outer training part, or of each (`nested`).

    One search for all folds reads test patients of the other folds: the evaluation reports how many.

    Reads   cohort, features/<slide_id>.h5 (None: genes alone), folds.csv; no test patient of `params.outer_fold` enters
            a model or a score. The settings of `params.warm_start`, where a model is named
    Writes  out/{best.yaml,trials.csv,importance.png,result.json}: all of them or none; nested: best.yaml with the
            settings of each fold, the other files in out/fold_<k>. During the search the study is in a folder next to
            `out` (or in `params.storage`); after an interruption it resumes with the stored trials. Each trial is a run
            on the tracking server, where one is configured
    Raises  DataError when no trial could be trained, or a covariate is no numeric column
            UsageError when the space has a setting or a value that training does not have
            OperationalError when PostgreSQL or the tracking server is unavailable
            Paused after SIGTERM

    init    only create the study in PostgreSQL, before its workers start
    """
    from mcti.steps.search import searches

    return searches.run(cohort, features, folds, params, train, out, init=init, progress=progress)
