"""Baseline survival models, fitted on the training part of each fold: the reference for every other model.

`REGISTRY` lists them by name; `fit_predict` fits one on every fold and predicts the test patients.
Shapes: n patients, p columns, h horizons.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, Self

import numpy as np

from mcti.arrays import BoolArray, FloatArray
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.evaluation.curves import KaplanMeier, StepFunction
from mcti.evaluation.design_matrix import Bags, Block, Clinical, Embedding, Genes, Inputs, design
from mcti.evaluation.linear_predictor import LinearPredictor, Terms
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.model.cox import (
    GENE_AXES,
    INNER_FOLDS,
    PENALTIES,
    SLIDE_AXES,
    CoxModel,
    breslow_hazard,
    breslow_survival,
    choose_penalty,
    fit_ridge,
    inner_folds,
    log_partial_likelihood,
)


class Baseline(Protocol):
    """A survival model of tabular input.

    needs_bags        it uses slide features
    needs_embeddings  it uses embeddings of slides or patients, not features of patches
    by_library        scikit-survival fits it. It has no left truncation: every patient counts as at risk from the
                      origin
    compiled          its fit runs in compiled code without the lock of the interpreter, that is at the same time as
                      Python
    """

    needs_bags: bool
    needs_embeddings: bool
    by_library: bool
    compiled: bool

    def fit(self, train: Inputs, seed: int) -> Self:
        """Fit the model and all preprocessing on the training part."""

    def predict(self, test: Inputs, months: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Risk (n,), higher means an earlier event, and S(t) (n, h) at `months` (h,)."""

    def stored(self, months: FloatArray) -> LinearPredictor | None:
        """The fitted model as numbers on raw inputs, with S(t) at `months` (h,); None: it has no such form."""


class KaplanMeierBaseline:
    """The Kaplan-Meier curve of the training part, the same for all patients.

    Its C is 0.5 by the tie rule. Its Brier score is the reference of the skill score.
    """

    needs_bags = needs_embeddings = by_library = compiled = False

    def fit(self, train: Inputs, seed: int) -> Self:  # noqa: ARG002 - no random numbers
        """Estimate the curve of the training part."""
        self._curve = KaplanMeier.fit(train.event, train.time_months, train.entry_months)
        return self

    def predict(self, test: Inputs, months: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See Baseline."""
        count = len(test.patients)
        return np.zeros(count), np.tile(self._curve.at(months), (count, 1))

    def stored(self, months: FloatArray) -> LinearPredictor | None:
        """See Baseline."""
        return LinearPredictor(Terms(), months, self._curve.at(months))


class RidgeCox:
    """Ridge-penalised Cox regression on blocks of columns.

    The penalty is chosen by the cross-validated partial likelihood of inner folds of the training part.
    """

    by_library = compiled = False

    def __init__(self, *blocks: Callable[[], Block], needs_bags: bool = False, needs_embeddings: bool = False) -> None:
        self._blocks = [create() for create in blocks]
        self.needs_bags, self.needs_embeddings = needs_bags, needs_embeddings
        self._model: CoxModel

    def fit(self, train: Inputs, seed: int) -> Self:
        """Fit blocks, penalty and coefficients."""
        for block in self._blocks:
            block.fit(train)
        self._widths = [block.columns(train).shape[1] for block in self._blocks]
        table = design(self._blocks, train)
        outcome = (train.event, train.time_months)
        penalty = choose_penalty(table, *outcome, PENALTIES, INNER_FOLDS, seed, train.entry_months)
        self._model = fit_ridge(table, *outcome, penalty, train.entry_months)
        return self

    def predict(self, test: Inputs, months: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See Baseline; the risk is the log hazard ratio."""
        table = design(self._blocks, test)
        return self._model.risk(table), self._model.survival(table, months)

    def stored(self, months: FloatArray) -> LinearPredictor | None:
        """See Baseline."""
        ends = np.cumsum(self._widths)[:-1]
        parts = np.split(self._model.coefficients, ends)
        terms = Terms.total([block.terms(part) for block, part in zip(self._blocks, parts, strict=True)])
        curve = breslow_survival(np.zeros(1), self._model.hazard_times, self._model.hazard, months)
        return LinearPredictor(terms, months, curve[0])


class CoxnetGenes:
    """Elastic-net Cox regression on all genes, close to ridge (Simon et al. 2011, J. Stat. Softw. 39:1-13).

    The penalty is chosen from a path by the cross-validated partial likelihood of inner folds.
    """

    needs_bags = needs_embeddings = compiled = False
    by_library = True
    # The smallest share of the l1 penalty with which the solver is stable: many weak genes predict better than few.
    L1_SHARE = 0.02
    PATH_LENGTH, MIN_RATIO = 30, 0.05  # geometric path from the smallest penalty without any gene down to 5 % of it

    def fit(self, train: Inputs, seed: int) -> Self:
        """Fit scales, penalty, coefficients and baseline hazard."""
        self._genes = Genes().fit(train)
        table = self._genes.columns(train)
        self._coefficients = _coxnet(table, train, self._best_path(table, train, seed))[:, -1]
        self._times, self._hazard = breslow_hazard(table @ self._coefficients, train.event, train.time_months)
        return self

    def predict(self, test: Inputs, months: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See Baseline; the risk is the log hazard ratio."""
        risk = self._genes.columns(test) @ self._coefficients
        return risk, breslow_survival(risk, self._times, self._hazard, months)

    def stored(self, months: FloatArray) -> LinearPredictor | None:
        """See Baseline."""
        curve = breslow_survival(np.zeros(1), self._times, self._hazard, months)
        return LinearPredictor(self._genes.terms(self._coefficients), months, curve[0])

    def _best_path(self, table: FloatArray, train: Inputs, seed: int) -> FloatArray:
        """The penalties (k,) of the path, ending with the best one."""
        path = _coxnet_path(table, train)
        fold, gains = inner_folds(train.event, INNER_FOLDS, seed), np.zeros(len(path))
        for k in range(INNER_FOLDS):
            kept = np.flatnonzero(fold != k)
            part, event, time = table[kept], train.event[kept], train.time_months[kept]
            for i, beta in enumerate(_coxnet(part, train.rows(kept), path).T):
                full_likelihood = log_partial_likelihood(table, train.event, train.time_months, beta)
                gains[i] += full_likelihood - log_partial_likelihood(part, event, time, beta)
        return path[: int(np.argmax(gains)) + 1]


class Trees:
    """A scikit-survival ensemble of trees on clinical columns and genes."""

    needs_bags = needs_embeddings = compiled = False
    by_library = True

    def __init__(self, create: Callable[[int], Any]) -> None:
        self._create = create
        self._blocks: list[Block] = [Clinical(), Genes()]

    def fit(self, train: Inputs, seed: int) -> Self:
        """Fit blocks and trees."""
        for block in self._blocks:
            block.fit(train)
        self._model = self._create(seed).fit(design(self._blocks, train), self._outcomes(train))
        return self

    @staticmethod
    def _outcomes(train: Inputs) -> Any:
        return _labels(train)

    def predict(self, test: Inputs, months: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See Baseline; the risk is the result of the ensemble's `predict` (expected events, or log hazard ratio)."""
        table = design(self._blocks, test)
        curves = self._model.predict_survival_function(table, return_array=True)
        times = np.asarray(self._model.unique_times_, dtype=np.float64)
        survival = np.stack([StepFunction(times, curve).at(months) for curve in curves])
        return np.asarray(self._model.predict(table), dtype=np.float64), survival

    def stored(self, months: FloatArray) -> LinearPredictor | None:  # noqa: ARG002
        """See Baseline; the leaves of trees hold the outcomes of single patients, so that none is stored."""
        return None


class Forest(Trees):
    """Trees that split by the log-rank statistic; fitted with the censored times moved back to the event before.

    The statistic and the curves change at event times alone, so the result has the same bits. The time of a split grows
    with the number of different times: a cohort with 16 % events is fitted in a third of the time.

    The trees grow in as many threads as `joblib.parallel_config` gives its backend "threading", each from its own
    random numbers. One thread predicts: several would sum the curves of the trees in the order in which they end, which
    changes the last bit.
    """

    compiled = True

    @staticmethod
    def _outcomes(train: Inputs) -> Any:
        from sksurv.util import Surv

        return Surv.from_arrays(train.event, at_event_times(train.event, train.time_months))


def at_event_times(event: BoolArray, time_months: FloatArray) -> FloatArray:
    """(n,) each time moved back to the last event time that is not after it, 0 before the first event.

    The patients at risk at each event time do not change: a patient censored at an event time is at risk there.
    """
    steps = np.concatenate([[0.0], np.unique(time_months[event])])
    return np.asarray(steps[np.searchsorted(steps, time_months, side="right") - 1], dtype=np.float64)


def _forest(seed: int) -> Any:
    """Random survival forest (Ishwaran et al. 2008, Ann. Appl. Stat. 2:841-860)."""
    from sksurv.ensemble import RandomSurvivalForest

    return RandomSurvivalForest(200, min_samples_leaf=10, max_features="sqrt", random_state=seed)


def _boosting(seed: int) -> Any:
    """Gradient boosting of the Cox partial likelihood with small trees (Ridgeway 1999; Friedman 2002)."""
    from sksurv.ensemble import GradientBoostingSurvivalAnalysis

    return GradientBoostingSurvivalAnalysis(
        n_estimators=100, learning_rate=0.05, max_depth=2, subsample=0.5, max_features="sqrt", random_state=seed
    )


def _genes() -> Block:
    return Genes(GENE_AXES)


def _bags() -> Block:
    return Bags(SLIDE_AXES)


REGISTRY: Mapping[str, Callable[[], Baseline]] = {
    "kaplan_meier": KaplanMeierBaseline,
    "cox_clinical": lambda: RidgeCox(Clinical),
    "cox_genes": CoxnetGenes,
    "cox_clinical_genes": lambda: RidgeCox(Clinical, _genes),
    "cox_slides": lambda: RidgeCox(_bags, needs_bags=True),
    "cox_slide_embedding": lambda: RidgeCox(Embedding, needs_bags=True, needs_embeddings=True),
    "linear_all": lambda: RidgeCox(Clinical, _genes, _bags, needs_bags=True),
    "forest": lambda: Forest(_forest),
    "boosting": lambda: Trees(_boosting),
    "subtype_only": lambda: RidgeCox(lambda: Clinical(["subtype"])),
    "site_only": lambda: RidgeCox(lambda: Clinical(["site"])),
}
"""Name -> a constructor. The last two are negative controls: what a label of the sample alone predicts."""


def create(name: str) -> Baseline:
    """A new, unfitted baseline.

    Raises
        UsageError when no baseline has this name
    """
    if name not in REGISTRY:
        raise UsageError(f"baseline {name!r} does not exist", "evaluate.baselines", did_you_mean(name, REGISTRY))
    return REGISTRY[name]()


def _labels(inputs: Inputs) -> Any:
    from sksurv.util import Surv

    return Surv.from_arrays(inputs.event, inputs.time_months)


def _coxnet(table: FloatArray, train: Inputs, path: FloatArray) -> FloatArray:
    """(p, k) coefficients along a path of penalties (k,)."""
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    model = CoxnetSurvivalAnalysis(alphas=path, l1_ratio=CoxnetGenes.L1_SHARE)
    with warnings.catch_warnings():
        # An inner training part may need a smaller penalty than the whole training part before its first gene enters.
        warnings.filterwarnings("ignore", message="all coefficients are zero")
        return np.asarray(model.fit(table, _labels(train)).coef_, dtype=np.float64)


def _coxnet_path(table: FloatArray, train: Inputs) -> FloatArray:
    """(k,) falling penalties. The first one is the largest that keeps a gene: without a gene there is no ranking."""
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    model = CoxnetSurvivalAnalysis(
        n_alphas=CoxnetGenes.PATH_LENGTH + 1, alpha_min_ratio=CoxnetGenes.MIN_RATIO, l1_ratio=CoxnetGenes.L1_SHARE
    )
    return np.asarray(model.fit(table, _labels(train)).alphas_[1:], dtype=np.float64)


def fit_folds(
    name: str,
    inputs: Inputs,
    outcomes: Outcomes,
    seed: int,
    context: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[Baseline]:
    """One baseline fitted on the training part of every fold, in the order of the folds.

    inputs: rows in the order of the cohort table, as in `outcomes`;  context: around the fit of each fold

    Raises
        DataError when a training part has no event
    """
    for fold in outcomes.folds:
        if not fold.train_event.any():
            hint = "choose fewer folds, or a split stratified by event"
            raise DataError("the training part has no event", f"folds, fold {fold.number}", hint)
    fitted = []
    for fold in outcomes.folds:
        with context():
            fitted.append(create(name).fit(inputs.rows(fold.train_patients), seed))
    return fitted


def predict_folds(fitted: Sequence[Baseline], inputs: Inputs, outcomes: Outcomes, horizons: FloatArray) -> Predictions:
    """Predictions of the test part of every fold by the model of that fold; horizons (h,) months."""
    parts = [
        model.predict(inputs.rows(fold.patients), horizons) for model, fold in zip(fitted, outcomes.folds, strict=True)
    ]
    return Predictions(np.concatenate([risk for risk, _ in parts]), np.concatenate([curve for _, curve in parts]))


def fit_predict(name: str, inputs: Inputs, outcomes: Outcomes, horizons: FloatArray, seed: int) -> Predictions:
    """`fit_folds`, then `predict_folds`; arguments and errors as there."""
    return predict_folds(fit_folds(name, inputs, outcomes, seed), inputs, outcomes, horizons)
