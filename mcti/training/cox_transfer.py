"""The linear score of the Cox branch, fitted on a training part and, with transfer, on other cohorts or a prior.

Own score     the sum of two ridge fits: on few whitened axes, and on many half-whitened ones
Joint fit     one half-whitened ridge fit on the training part and the sources, stratified by cohort, plus a share of
              the own score; the weight of the sources is chosen
Prior         the score of a registered model is an offset of the fits; its weight is chosen
Choice        by the partial likelihood of held-out scores of inner folds of the training part, times one fitted slope;
              no transfer is among the choices. The chosen score is multiplied by its slope (van Houwelingen 2000, Stat.
              Med. 19:3401-3415), so that inputs without information have little influence. The slope is shrunk to 1:
              few events estimate it badly.

docs/decisions/0007-transfer-cox.md contains the measurements that the numbers of this module follow from.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.model import cox
from mcti.training.cox_design import HALF_WHITENED, WHITENED, AxesKind, Design, Ratios, Scaled
from mcti.training.cox_inputs import Tables

_log = logging.getLogger(__name__)

PENALTIES = {WHITENED: 300.0, HALF_WHITENED: 100.0}
"""Ridge penalty of each kind of axes, in units of events; fixed, as a choice inside the training part ranked worse."""
SOURCE_WEIGHTS = {0.25: 0.0, 0.0: 3.0, 1.0: 1.0}
"""Weights of the likelihood of each source relative to that of the training part, to choose from; 0: no transfer. The
value is the gain in log partial likelihood from which a weight replaces the favoured one, that of value 0. No transfer
has the largest: with 25 to 60 events it is often chosen by chance, and costs most."""
PRIOR_WEIGHTS = {0.5: 0.0, 0.0: 3.0, 0.25: 1.0, 1.0: 1.0}
"""Weights of the score of a prior to choose from, likewise; 0: no transfer."""
OWN_SHARE = 0.25
"""Share of the own score that is added to that of a joint fit."""
SLOPE_EVENTS = 50.0
"""Events that the slope 1 counts for, next to those of the training part; estimates of 25 events were 0 to 2."""
LARGEST_SLOPE = 3.0
NO_CHOICE = {0.0: 0.0}
"""Without sources, or without a prior."""


@dataclass(frozen=True)
class Part:
    """Patients of one cohort: tables of their inputs, event (n,), time_months (n,), entry_months (n,) or None: 0."""

    tables: Tables
    event: BoolArray
    time_months: FloatArray
    entry_months: FloatArray | None = None

    def stratum(self, design: FloatArray, offset: FloatArray | None = None) -> cox.Stratum:
        """The outcomes with a design (n, p) and an offset (n,)."""
        return cox.Stratum(design, self.event, self.time_months, offset, entry_months=self.entry_months)


@dataclass(frozen=True)
class Candidate:
    """A fitted score: its log hazard ratios, and the scores (n,) of the training patients while held out."""

    ratios: Ratios
    held_out: FloatArray

    def plus(self, other: "Candidate", share: float) -> "Candidate":
        """The sum of this score and a share of another one."""
        ratios = {name: values + share * other.ratios[name] for name, values in self.ratios.items()}
        return Candidate(ratios, self.held_out + share * other.held_out)


@dataclass(frozen=True)
class Score:
    """A fitted score, and the choices that it was fitted with.

    ratios  log hazard ratios of the inputs
    choice  source_weight and prior_weight (0: no transfer), and slope, as JSON values
    """

    ratios: Ratios
    choice: Mapping[str, float]


def fit_score(target: Part, sources: Sequence[Part], prior: Ratios | None, seed: int, where: str = "") -> Score:
    """The score of a training part `target`, learned from it, the sources and the prior.

    prior  log hazard ratios of the same tables; None: there is no prior
    seed   of the inner folds
    """
    scaled = Scaled.fit(target.tables)
    fits = _Fits(target, scaled, prior, cox.inner_folds(target.event, cox.INNER_FOLDS, seed))
    alone = fits.own_score(0.0)
    joint = _Joint.fit(scaled, sources) if sources else None
    margins = margins_of(SOURCE_WEIGHTS if sources else NO_CHOICE, PRIOR_WEIGHTS if prior else NO_CHOICE)
    weights = list(margins)
    candidates = [fits.candidate(joint, pair, alone) for pair in weights]
    chosen = favoured_or_better([fits.gain(one) for one in candidates], list(margins.values()))
    slope = fits.slope(candidates[chosen])
    source_weight, prior_weight = weights[chosen]
    weights_text = _weights_text(source_weight if sources else None, prior_weight if prior else None)
    _log.info("%s: Cox model with %sslope %.2f", where, weights_text, slope)
    ratios = {name: slope * values for name, values in candidates[chosen].ratios.items()}
    return Score(ratios, {"source_weight": source_weight, "prior_weight": prior_weight, "slope": slope})


def _weights_text(source_weight: float | None, prior_weight: float | None) -> str:
    """The chosen weights for the log; None: there was nothing to choose."""
    named = {"source weight": source_weight, "prior weight": prior_weight}
    return "".join(f"{name} {weight:g}, " for name, weight in named.items() if weight is not None)


def margins_of(
    source_weights: Mapping[float, float], prior_weights: Mapping[float, float]
) -> dict[tuple[float, float], float]:
    """Pairs of weights of sources and prior, the favoured one first -> the gain from which a pair replaces it."""
    pairs = itertools.product(source_weights.items(), prior_weights.items())
    return {(source, prior): margin + other for (source, margin), (prior, other) in pairs}


def favoured_or_better(gains: Sequence[float], margins: Sequence[float]) -> int:
    """The position of the largest of gains (k,) less margins (k,); of equal ones the first, whose margin is 0."""
    return int(np.argmax(np.asarray(gains) - np.asarray(margins)))


def strata_of(design: Design, scaled: Sequence[Scaled], parts: Sequence[Part]) -> list[cox.Stratum]:
    """The patients of each cohort as a stratum of a fit; scaled: the tables of `parts`, each scaled within itself."""
    rows = zip(scaled, parts, strict=True)
    return [part.stratum(design.columns(one)) for one, part in rows]


def slope_of(scores: Sequence[FloatArray], parts: Sequence[Part]) -> float:
    """Slope of held-out scores, (n,) of the patients of each cohort, from 0 to LARGEST_SLOPE; stratified by cohort."""
    sd = float(np.concatenate(scores).std())
    if sd < 1e-9:
        return 0.0
    rows = zip(scores, parts, strict=True)
    strata = [part.stratum(values[:, None] / sd, values) for values, part in rows]
    # With the score as offset the coefficient is the deviation of the slope from 1, which is what the penalty shrinks.
    return float(np.clip(1 + cox.stratified_coefficients(strata, SLOPE_EVENTS)[0] / sd, 0.0, LARGEST_SLOPE))


class _Joint:
    """Half-whitened axes of training part and sources together, and the columns of both along them."""

    def __init__(self, design: Design, sources: list[cox.Stratum]) -> None:
        self.design, self.sources = design, sources

    @classmethod
    def fit(cls, target: Scaled, sources: Sequence[Part]) -> "_Joint":
        scaled = [Scaled.fit(source.tables) for source in sources]
        design = Design.fit([target, *scaled], HALF_WHITENED)
        return cls(design, strata_of(design, scaled, sources))


class _Fits:
    """Fits of one training part, each repeated without each inner fold."""

    def __init__(self, target: Part, scaled: Scaled, prior: Ratios | None, fold: IntArray) -> None:
        self.target, self.scaled, self.prior, self.fold = target, scaled, prior, fold
        self._designs: dict[AxesKind, Design] = {}
        tables = target.tables
        score = None if prior is None else sum((tables[n] @ prior[n] for n in tables), torch.zeros(1)).numpy()
        self._prior_score = score

    def candidate(self, joint: _Joint | None, weights: tuple[float, float], alone: Candidate) -> Candidate:
        """The score with these weights of sources and prior; alone: the own score without prior."""
        source_weight, prior_weight = weights
        if joint is None or not source_weight:
            return self.own_score(prior_weight) if prior_weight else alone
        strata = [replace(stratum, weight=source_weight) for stratum in joint.sources]
        return self._cross_fit(joint.design, strata, PENALTIES[HALF_WHITENED], prior_weight).plus(alone, OWN_SHARE)

    def own_score(self, prior_weight: float) -> Candidate:
        """The score of the training part alone: the sum of the fits along both kinds of axes."""
        first, second = (
            self._cross_fit(self._design(axes), [], penalty, prior_weight) for axes, penalty in PENALTIES.items()
        )
        return first.plus(second, 1.0)

    def gain(self, candidate: Candidate) -> float:
        """Log partial likelihood of the held-out scores times their slope."""
        part, scores = self.target, candidate.held_out[:, None]
        beta = np.array([self.slope(candidate)])
        return cox.log_partial_likelihood(scores, part.event, part.time_months, beta, part.entry_months)

    def slope(self, candidate: Candidate) -> float:
        """`slope_of` the held-out scores of a candidate."""
        return slope_of([candidate.held_out], [self.target])

    def _design(self, axes: AxesKind) -> Design:
        if axes not in self._designs:
            self._designs[axes] = Design.fit([self.scaled], axes)
        return self._designs[axes]

    def _cross_fit(self, design: Design, sources: list[cox.Stratum], penalty: float, prior_weight: float) -> Candidate:
        part = self.target
        offset = prior_weight * self._prior_score if prior_weight and self._prior_score is not None else None
        target = part.stratum(design.columns(self.scaled), offset)
        beta = cox.stratified_coefficients([target, *sources], penalty)
        held_out = np.zeros(len(part.event))
        for number in range(cox.INNER_FOLDS):
            kept = self.fold != number
            without = cox.stratified_coefficients([target.rows(kept), *sources], penalty, beta)
            held_out[~kept] = target.rows(~kept).score(without)
        ratios = design.ratios(beta, self.scaled)
        if offset is not None and self.prior is not None:
            ratios = {name: values + prior_weight * self.prior[name] for name, values in ratios.items()}
        return Candidate(ratios, held_out)
