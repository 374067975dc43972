"""TRIPOD+AI items of a prediction study (Collins et al. 2024, BMJ 385:e078378), filled from the run where it knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcti.evaluation import summary_text
from mcti.evaluation.scores import OURS, Scores
from mcti.model.names import display
from mcti.params import EvaluateParams

AUTHORS = "to be written by the authors"


@dataclass(frozen=True)
class Item:
    """One item: its number, what it asks for, what this run says; `open` when only people can answer."""

    number: str
    topic: str
    said: str

    @property
    def open(self) -> bool:
        """Whether the run cannot tell."""
        return self.said == AUTHORS


@dataclass(frozen=True)
class StudySummary:
    """What the run knows of the study beside its scores; patients and events are those evaluated.

    excluded: {step: {reason: patients}};  predictors: e.g. '76 genes, age, grade';  train_patients, train_events: of
    each fold's training part.
    """

    endpoint: str
    patients: int
    events: int
    excluded: Mapping[str, Mapping[str, int]]
    predictors: str
    notice: str
    train_patients: tuple[int, ...] = ()
    train_events: tuple[int, ...] = ()

    @property
    def flow(self) -> str:
        """The flow of the patients in one sentence."""
        gone = [f"{n} at {step} ({why})" for step, reasons in self.excluded.items() for why, n in reasons.items()]
        total = self.patients + sum(sum(reasons.values()) for reasons in self.excluded.values())
        told = f"excluded: {', '.join(gone)}" if gone else "nobody excluded"
        return (
            f"{total} patients in the clinical table; {told}; {self.patients} evaluated, {self.events} with the event"
        )

    @property
    def analyses(self) -> str:
        """Patients and events in test and in training."""
        tested = f"test: {self.patients} patients, {self.events} events, each patient once a round"
        if not self.train_patients:
            return tested
        counts, events = (_range(values) for values in (self.train_patients, self.train_events))
        return f"{tested}; training part of a fold: {counts} patients, {events} events"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def fill(study: StudySummary, scores: Scores, params: EvaluateParams) -> list[Item]:
    """Every item in its order; those that a run cannot know say so."""
    folds = scores.models[OURS]["folds"]
    fewest = min(fold["events"] for fold in folds)
    horizons = ", ".join(f"{months:g}" for months in scores.horizons)
    known = {
        "7": "z-scores, components and imputation fitted on the training part of each fold alone",
        "8a": f"{study.endpoint}, time in months",
        "9a": f"{study.predictors}; slide features where slides were given",
        "10": f"{study.patients} patients, {study.events} events, at least {fewest} events in a test fold; the "
        "intervals show what that allows",
        "11": "a missing covariate or gene takes the training median, with a column that says so for covariates",
        "12": f"{len(folds)} folds; Harrell's C within folds first, then Uno's C, AUC, Brier score and calibration at "
        f"{horizons} months; paired comparison with {display(params.primary_baseline)} named beforehand",
        "13": "events are not resampled; censoring is weighed",
        "14": "C by sex, age, subtype and site, with event counts (Subgroups)",
        "15": f"a risk score without unit, higher is worse, and the probability of no event by {horizons} months",
        "16": "every patient is scored by a model whose weights, scales and cut-offs were fitted without them. "
        + " ".join(summary_text.searched(scores.search)),
        "20a": study.flow,
        "20b": "Table 1 (Patients), by risk group and by fold",
        "21": study.analyses,
        "22": "weights and settings of every fold are registered with this report",
        "23a": "Models, MCTI against each other model, Calibration, Decision curves, each with intervals",
        "23b": "Folds; by site in Subgroups",
        "24": "survival curves recalibrated inside the training parts (Before and after recalibration)"
        if scores.recalibration
        else "none: no recalibration after the fact",
    }
    if study.notice:
        known["26"] = study.notice
    return [Item(number, topic, known.get(number, AUTHORS)) for number, topic in TOPICS]


TOPICS = (
    ("1", "title names the model, the outcome and the population"),
    ("2", "abstract by TRIPOD+AI for abstracts"),
    ("3", "background: medical context, intended users, known inequalities"),
    ("4", "objectives: development, evaluation or both"),
    ("5", "sources and dates of the data"),
    ("6", "setting, eligibility, treatments received"),
    ("7", "preparation of the data"),
    ("8a", "outcome and when it is assessed"),
    ("8b", "who assessed the outcome, and how"),
    ("9a", "predictors"),
    ("9b", "how and when predictors were measured"),
    ("10", "size of the study"),
    ("11", "missing data"),
    ("12", "analysis: how the data were used, which models, how performance is measured"),
    ("13", "imbalance of classes"),
    ("14", "fairness"),
    ("15", "output of the model"),
    ("16", "difference between training and evaluation data"),
    ("17", "ethical approval"),
    ("18", "funding, interests, protocol, registration, data and code"),
    ("19", "patients and public involved"),
    ("20a", "flow of participants"),
    ("20b", "characteristics of the participants"),
    ("21", "patients and events in each analysis"),
    ("22", "the full model, so that others can use it"),
    ("23a", "performance with intervals"),
    ("23b", "heterogeneity of performance"),
    ("24", "updating of the model"),
    ("25", "interpretation, fairness included"),
    ("26", "limitations"),
    ("27", "use in care: poor input, interaction of the user, next steps"),
)
