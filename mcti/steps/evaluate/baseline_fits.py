"""Input of the baselines from a cohort, and their predictions on every fold."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.cohort import tables
from mcti.dataset.loading import slides_with_features
from mcti.errors import DataError
from mcti.evaluation import baselines
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.linear_predictor import LinearPredictor, StoredBaselines
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.slides.features import read_slide
from mcti.storage import Location

_NO_ROWS = np.zeros((0, 1))


@dataclass(frozen=True)
class FittedBaselines:
    """The baselines of an evaluation.

    predictions  {name: out-of-fold predictions};  stored  the fitted models that can be stored as numbers
    skipped      {name: reason}
    """

    predictions: dict[str, Predictions]
    stored: StoredBaselines
    skipped: Mapping[str, str]


def read_inputs(cohort: Location, features: Location | None, patients: pd.DataFrame) -> Inputs:
    """Input of the baselines, rows as in `patients`; a patient without expression has missing values."""
    genes = tables.read_expression(cohort).reindex(patients["patient_id"])
    patients = tables.with_levels(patients, tables.read_info(cohort).ordered_levels)
    if features is None:
        return Inputs(patients, genes)
    bags, embeddings = bag_moments(cohort, features, list(patients["patient_id"]))
    return Inputs(patients, genes, bags, embeddings)


def bag_moments(cohort: Location, features: Location, patients: list[str]) -> tuple[FloatArray, bool]:
    """(n, 2 D) mean and standard deviation of each patient's features over all slides, NaN without features; and
    whether the features are embeddings: each file has one row without coordinates.

    Raises
        DataError when no slide of the cohort has features, or the features have different widths
    """
    moments: dict[str, FloatArray] = {}
    embeddings = True
    for patient, names in slides_with_features(cohort, features, patients).items():
        files = [read_slide(storage.join(features, f"{name}.h5")) for name in names]
        embeddings &= all(len(file.features) == 1 and file.coordinates is None for file in files)
        rows = np.concatenate([file.features.astype(np.float64) for file in files if len(file.features)] or [_NO_ROWS])
        if len(rows):
            moments[patient] = np.concatenate([rows.mean(axis=0), rows.std(axis=0)])
    if not moments:
        raise DataError("no slide of the cohort has features", str(features), "extract the slides of this cohort")
    if len(widths := {len(values) // 2 for values in moments.values()}) > 1:
        hint = "extract all slides with one encoder"
        raise DataError(f"the features have different widths: {sorted(widths)}", str(features), hint)
    without_patches = np.full(2 * widths.pop(), np.nan)
    return np.stack([moments.get(patient, without_patches) for patient in patients]), embeddings


@dataclass(frozen=True)
class _Fit:
    """One baseline, fitted on every fold: its out-of-fold predictions, and the models that can be stored as numbers."""

    predictions: Predictions
    stored: list[LinearPredictor]


class BaselineFits:
    """Fits of the baselines of the settings. Inside its context a further thread fits those in compiled code.

    Baselines of embeddings are fitted where the features are embeddings. The further thread leaves one core to the
    caller until the caller waits for it. It is a daemon thread: the process ends without it, as after Ctrl-C.

    Raises
        UsageError when a baseline does not exist
    """

    def __init__(self, inputs: Inputs, outcomes: Outcomes, params: EvaluateParams) -> None:
        self._inputs, self._outcomes, self._params = inputs, outcomes, params
        models = {name: baselines.create(name) for name in params.baselines}
        if inputs.bags is None or not inputs.embeddings:  # a baseline of other features is no gap of this evaluation
            models = {name: model for name, model in models.items() if not model.needs_embeddings}
        self.skipped = {
            name: "no slide features were passed" for name, b in models.items() if b.needs_bags and inputs.bags is None
        }
        if inputs.entry_months is not None:
            reason = "its library has no left truncation (entry_months): it would count patients from the origin"
            self.skipped |= {name: reason for name, model in models.items() if model.by_library}
        self._fits: dict[str, Future[_Fit]] = {name: Future() for name in models if name not in self.skipped}
        self._compiled = [name for name in self._fits if models[name].compiled]
        self._awaited, self._left = threading.Event(), threading.Event()
        self._context = ExitStack()

    def __enter__(self) -> Self:
        from threadpoolctl import threadpool_limits

        # One thread: a fixed order of summation, so that the last bit does not depend on the load of the machine.
        self._context.enter_context(threadpool_limits(1))
        if self._compiled:
            # Imported in this thread: two threads that import modules with circular imports can see unfinished ones.
            from sksurv import ensemble, linear_model  # noqa: F401

            threading.Thread(target=self._fit_compiled, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._context.close()

    def interpreted(self, progress: Progress | None = None) -> dict[str, Predictions]:
        """Fit the baselines that are not compiled, in this thread: {name: out-of-fold predictions}.

        Raises
            DataError when a training part has no event
        """
        direct = [name for name in self._fits if name not in self._compiled]
        for done, name in enumerate(direct):
            self._report(progress, done, name)
            self._fits[name].set_result(self._fit(name, nullcontext))
        return {name: self._fits[name].result().predictions for name in direct}

    def result(self, progress: Progress | None = None) -> FittedBaselines:
        """All baselines, in the order of the settings; called after `interpreted`, it waits for the further thread.

        Raises
            DataError when a training part has no event
        """
        self._awaited.set()
        for number, name in enumerate(self._compiled):
            self._report(progress, len(self._fits) - len(self._compiled) + number, name)
            self._fits[name].result()
        if progress is not None:
            progress(len(self._fits), len(self._fits), "baselines")
        fits = {name: future.result() for name, future in self._fits.items()}
        stored = {name: fit.stored for name, fit in fits.items() if fit.stored}
        genes = tuple(map(str, self._inputs.genes.columns))
        return FittedBaselines(
            {name: fit.predictions for name, fit in fits.items()}, StoredBaselines(stored, genes), self.skipped
        )

    def _report(self, progress: Progress | None, done: int, name: str) -> None:
        if progress is not None:
            progress(done, len(self._fits), "baselines", name)

    def _fit_compiled(self) -> None:
        for name in self._compiled:
            try:
                self._fits[name].set_result(self._fit(name, self._cores))
            except BaseException as error:  # raised in the thread that waits
                self._fits[name].set_exception(error)

    def _fit(self, name: str, context: Callable[[], AbstractContextManager[None]]) -> _Fit:
        folds = baselines.fit_folds(name, self._inputs, self._outcomes, self._params.seed, context)
        horizons = np.array(sorted(self._params.horizons_months))
        predictions = baselines.predict_folds(folds, self._inputs, self._outcomes, horizons)
        return _Fit(predictions, [model for fold in folds if (model := fold.stored(horizons)) is not None])

    @contextmanager
    def _cores(self) -> Iterator[None]:
        """The threads of the fit of one fold: one per core, one less while the caller works."""
        from joblib import parallel_config

        if self._left.is_set():
            raise CancelledError
        # The library only prefers threads. Without the name of the backend, joblib would replace the number by 1.
        with parallel_config("threading", n_jobs=-1 if self._awaited.is_set() else -2):
            yield
