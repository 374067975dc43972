"""TRIPOD+AI reporting items of a prediction study (Collins et al. 2024, BMJ 385:e078378), filled in from a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcti.evaluation import summary_text
from mcti.evaluation.scores import MCTI_KEY, Scores
from mcti.model.names import display
from mcti.params import EvaluateParams

AUTHORS = "to be written by the authors"


@dataclass(frozen=True)
class ChecklistItem:
    """One item: its number, its topic and the text for this run."""

    number: str
    topic: str
    text: str

    @property
    def open(self) -> bool:
        """Whether the authors have to write this item, because the run has no information on it."""
        return self.text == AUTHORS


@dataclass(frozen=True)
class StudySummary:
    """What a run contains about the study besides its scores; patients and events are the evaluated ones.

    excluded {step: {reason: patients}};  predictors, for example '76 genes, age, grade';  train_patients, train_events
    of the training part of each fold.
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
        """The patient flow in one sentence."""
        exclusions = [f"{n} at {step} ({why})" for step, reasons in self.excluded.items() for why, n in reasons.items()]
        total = self.patients + sum(sum(reasons.values()) for reasons in self.excluded.values())
        excluded = f"excluded: {', '.join(exclusions)}" if exclusions else "no patient excluded"
        evaluated = f"{self.patients} evaluated, {self.events} with the event"
        return f"{total} patients in the clinical table; {excluded}; {evaluated}"

    @property
    def analyses(self) -> str:
        """Patients and events in the test parts and in the training parts."""
        tested = f"test: {self.patients} patients, {self.events} events, each patient once per repetition"
        if not self.train_patients:
            return tested
        counts, events = (_range(values) for values in (self.train_patients, self.train_events))
        return f"{tested}; training part of a fold: {counts} patients, {events} events"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def fill(study: StudySummary, scores: Scores, params: EvaluateParams) -> list[ChecklistItem]:
    """Every item in its order; an item without information in the run is left to the authors."""
    known = _data_items(study) | _analysis_items(study, scores, params) | _result_items(study, scores)
    return [ChecklistItem(number, topic, known.get(number, AUTHORS)) for number, topic in TOPICS]


def _data_items(study: StudySummary) -> dict[str, str]:
    return {
        "7": "z-scores, principal components and imputation fitted on the training part of each fold only",
        "8a": f"{study.endpoint}, time in months",
        "9a": f"{study.predictors}; slide features where slides were given",
        "11": "a missing covariate or gene is set to the training median; an indicator column marks missing covariates",
        "13": "events are not resampled; censoring is handled by weights",
    } | ({"26": study.notice} if study.notice else {})


def _analysis_items(study: StudySummary, scores: Scores, params: EvaluateParams) -> dict[str, str]:
    folds = scores.models[MCTI_KEY]["folds"]
    fewest = min(fold["events"] for fold in folds)
    horizons = ", ".join(f"{months:g}" for months in scores.horizons)
    primary = display(params.primary_baseline)
    return {
        "10": f"{study.patients} patients, {study.events} events, at least {fewest} events in a test fold; the "
        "intervals show the resulting precision",
        "12": f"{len(folds)} folds; primary measure Harrell's C within folds, then Uno's C, AUC, Brier score and "
        f"calibration at {horizons} months; paired comparison with {primary}, which was chosen beforehand",
        "14": "C by sex, age, subtype and site, with numbers of events (Subgroups)",
        "15": f"a risk score without unit, higher is worse, and the probability of no event by {horizons} months",
        "16": "every patient is scored by a model whose weights, scales and cut-offs were fitted without them. "
        + " ".join(summary_text.search_sentences(scores.search)),
    }


def _result_items(study: StudySummary, scores: Scores) -> dict[str, str]:
    return {
        "20a": study.flow,
        "20b": "Table 1 (Patients), by risk group and by fold",
        "21": study.analyses,
        "22": "weights and settings of every fold are registered with this report",
        "23a": "Models, comparison of MCTI with each other model, Calibration, Decision curves, each with intervals",
        "23b": "Folds; by site in Subgroups",
        "24": "survival curves recalibrated inside the training parts (Before and after recalibration)"
        if scores.recalibration
        else "none: the model is not updated after training",
    }


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
"""(number, topic) of every item, in the order of the checklist."""
