"""Measure a challenger against the champion: what the gates of the registry decide on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.errors import DataError
from mcti.model.names import display
from mcti.params import PromoteParams
from mcti.redaction import hashed
from mcti.registry import alpha_spending, approvals, cost, ensemble, evidence, gates, models
from mcti.registry.alpha_spending import Look
from mcti.registry.gates import Difference, Gate, GateEvaluation
from mcti.registry.ledger import LedgerEntry

if TYPE_CHECKING:
    import pandas as pd

    from mcti.evaluation.comparison import Interval
    from mcti.evaluation.paired_comparison import PairedBootstrap, PairedComparison

BASELINE = "cox_clinical"


@dataclass(frozen=True)
class Candidate:
    """A version with its evidence, fetched below `scratch` when first asked for."""

    version: Any
    scratch: Path

    @property
    def digest(self) -> str:
        """SHA-256 of weights and assignment."""
        return str(self.version.tags[models.DIGEST])

    @cached_property
    def folder(self) -> Path:
        """The folder of the ensemble."""
        return models.fetch(f"models:/{self.version.name}/{self.version.version}", self.scratch / "model")

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """Out-of-fold predictions with outcomes."""
        return evidence.predictions(self._file("predictions.csv"))

    @cached_property
    def groups(self) -> "pd.DataFrame":
        """patient_id and the labels whose groups are judged apart."""
        import pandas as pd

        return pd.read_csv(self._file("groups.csv"), dtype=str, keep_default_na=False)

    @cached_property
    def regimes(self) -> dict[str, "pd.DataFrame"]:
        """Out-of-fold predictions with a modality taken away, by the name of the regime; none: it cannot do without."""
        if evidence.REGIMES not in evidence.names(models.run_of(self.version)):
            return {}
        table = evidence.predictions(self._file(evidence.REGIMES))
        return {str(regime): rows for regime, rows in table.groupby("regime")}

    def metrics(self) -> Mapping[str, Any]:
        """metrics.json of the evaluation."""
        found: Mapping[str, Any] = storage.read_json(self._file("metrics.json"))
        return found

    def seen(self, tested: "pd.DataFrame") -> int:
        """How many rows (patient_id, fold) were in the training part of the very model that predicted them."""
        trained = ensemble.trained_on(self.folder)
        pairs = zip(tested["patient_id"], tested["fold"], strict=True)
        # A version registered with --redact names its patients by the very hash.
        return sum(not {patient, hashed(patient)}.isdisjoint(trained[f"fold_{fold}"]) for patient, fold in pairs)

    def _file(self, name: str) -> Path:
        return evidence.fetch(models.run_of(self.version), name, self.scratch)


def judge(
    challenger: Candidate, champion: Candidate | None, lines: Sequence[LedgerEntry], params: PromoteParams
) -> GateEvaluation:
    """All gates; `lines` of the ledger tell how often these test patients were looked at."""
    if champion is None:
        lead = against_baseline(challenger)
        return gates.conclude([gates.first(lead), *_primary(challenger), *_rules(challenger, None, params)], lead)
    from mcti.evaluation.paired_comparison import PairedComparison

    rivals = PairedComparison.from_tables(challenger.predictions, champion.predictions, params.uno_tau_quantile)
    look = alpha_spending.look(lines, rows(rivals), f"{challenger.digest}:{champion.digest}", params)
    against = f"champion version {champion.version.version}"
    lead, found = compare(rivals, challenger.groups, against, look, params)
    enough = rivals.events >= params.min_events
    rest = [*_regimes(challenger, champion, against, params), *_costs(challenger, champion, params)] if enough else []
    rules = _rules(challenger, champion, params)
    told = _primary(challenger)
    return gates.conclude([*found, *told, *rest, *rules], lead, look if enough and look.alpha > 0 else None)


def compare(
    rivals: "PairedComparison", labels: "pd.DataFrame", against: str, look: Look, params: PromoteParams
) -> tuple[Difference, list[Gate]]:
    """The statistical gates: superiority in Uno's C; Harrell's C told; Brier score, calibration, groups not worse."""
    from mcti.evaluation.paired_comparison import PairedBootstrap

    told = _Told(rivals, against)
    if rivals.events < params.min_events or look.alpha <= 0:
        lead = told.of("Uno's C", None)
        return lead, [gates.superior(lead, look, params)]
    drawn = PairedBootstrap.draw(rivals, params.bootstrap, params.seed)
    lead = told.of("Uno's C", drawn.difference(rivals.uno_c(), 1 - 2 * look.alpha))
    harrell = told.of("Harrell's C", drawn.difference(rivals.harrell_c(), params.confidence))
    harrell_gate = Gate(
        name="harrell", verdict=gates.INFORMATIONAL, reason=str(harrell), numbers=harrell.model_dump(mode="json")
    )
    found = [gates.superior(lead, look, params), harrell_gate, *_absolute(rivals, drawn, told, params)]
    return lead, [*found, *_groups(rivals, drawn, labels, against, params)]


def against_baseline(challenger: Candidate) -> Difference:
    """The lead over the clinical Cox model as the evaluation found it.

    Raises DataError when the evaluation did not fit it.
    """
    ours = challenger.metrics()[evidence.OURS]
    if BASELINE not in ours["comparison"]:
        hint = f"add {BASELINE} to evaluate.baselines and run `mcti evaluate` and `mcti register` again"
        raise DataError(f"the evaluation has no baseline {BASELINE}", "metrics.json of the challenger", hint)
    return Difference(against=BASELINE, **_counts(challenger), **ours["comparison"][BASELINE]["difference"])


def _counts(candidate: Candidate) -> dict[str, int]:
    """Evaluated patients and events, each patient once, however many folds tested them."""
    patients = candidate.predictions.drop_duplicates("patient_id")
    return {"patients": len(patients), "events": int(patients["event"].sum())}


def _primary(challenger: Candidate) -> list[Gate]:
    """The gate of the primary baseline; none where the evaluation left it out."""
    compared = challenger.metrics()[evidence.OURS]["comparison"]
    name = next((name for name, found in compared.items() if found.get("primary")), None)
    if name is None:
        return []
    counts, found = _counts(challenger), compared[name]
    lead = Difference(against=display(name), **counts, **found["difference"])
    errors = found.get("ibs_difference")
    if errors is None or errors["value"] is None:
        return [gates.primary(lead, None)]
    turned = {"value": -errors["value"], "low": _minus(errors["high"]), "high": _minus(errors["low"])}
    error = Difference(metric="integrated Brier score", against=display(name), **counts, **turned)
    return [gates.primary(lead, error)]


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


@dataclass(frozen=True)
class _Told:
    """Intervals as leads: with the counts and the rival's name."""

    rivals: "PairedComparison"
    against: str

    def of(self, metric: str, interval: "Interval | None", sign: int = 1) -> Difference:
        """sign -1 turns a loss, of which less is better, into a lead."""
        counts = {"patients": len(self.rivals.patients), "events": self.rivals.events}
        known = {"value": None, "low": None, "high": None} if interval is None else interval.as_dict()
        if sign < 0:
            turned = {name: None if number is None else -number for name, number in known.items()}
            known = {"value": turned["value"], "low": turned["high"], "high": turned["low"]}
        return Difference(metric=metric, against=self.against, **counts, **known)


def _absolute(
    rivals: "PairedComparison", drawn: "PairedBootstrap", told: _Told, params: PromoteParams
) -> Iterator[Gate]:
    """Survival probabilities: Brier score and calibration, as leads (positive: the challenger is better)."""
    known = len(rivals.horizons) > 0
    for name, metric, pair, margin in (
        ("brier score", "integrated Brier score", rivals.ibs, params.ibs_margin),
        ("calibration", "calibration index", rivals.ici, params.calibration_margin),
    ):
        interval = drawn.difference(pair(), params.confidence) if known else None
        yield gates.not_worse(name, told.of(metric, interval, sign=-1), margin)


def _groups(
    rivals: "PairedComparison", drawn: "PairedBootstrap", labels: "pd.DataFrame", against: str, params: PromoteParams
) -> Iterator[Gate]:
    from mcti.evaluation.subgroups import MIN_INTERVAL_EVENTS

    for name, member in rivals.group_members(labels):
        events = int(rivals.event[member].sum())
        if events < MIN_INTERVAL_EVENTS or member.all():
            continue
        interval = drawn.difference(rivals.uno_c(member), params.confidence)
        counts = {"patients": int(member.sum()), "events": events}
        lead = Difference(metric="Uno's C", against=against, **counts, **interval.as_dict())
        yield gates.not_worse(name, lead, params.group_margin, events >= params.group_min_events)


def _regimes(challenger: Candidate, champion: Candidate, against: str, params: PromoteParams) -> Iterator[Gate]:
    """Uno's C with a modality taken away, where both models have such predictions."""
    from mcti.evaluation.paired_comparison import PairedBootstrap, PairedComparison

    for regime in sorted({*challenger.regimes, *champion.regimes}):
        name = f"regime {regime}"
        if regime not in champion.regimes:
            yield Gate(name=name, verdict=gates.INFORMATIONAL, reason="the champion cannot predict it")
            continue
        if regime not in challenger.regimes:
            yield Gate(name=name, verdict=gates.REJECT, reason="the champion predicts it, the challenger cannot")
            continue
        rivals = PairedComparison.from_tables(
            challenger.regimes[regime], champion.regimes[regime], params.uno_tau_quantile
        )
        interval = PairedBootstrap.draw(rivals, params.bootstrap, params.seed).difference(
            rivals.uno_c(), params.confidence
        )
        lead = _Told(rivals, against).of("Uno's C", interval)
        yield gates.not_worse(name, lead, params.group_margin, rivals.events >= params.group_min_events)


def _costs(challenger: Candidate, champion: Candidate, params: PromoteParams) -> list[Gate]:
    loaded = {"challenger": ensemble.load(challenger.folder), "champion": ensemble.load(champion.folder)}
    costs = cost.measure(loaded, params.benchmark_patches)
    ours, theirs = costs["challenger"], costs["champion"]
    return [
        gates.at_most("latency", ours.seconds, theirs.seconds, params.max_latency_ratio, "processor seconds a patient"),
        gates.at_most("memory", ours.peak_bytes / 1e6, theirs.peak_bytes / 1e6, params.max_memory_ratio, "MB at most"),
    ]


def _rules(challenger: Candidate, champion: Candidate | None, params: PromoteParams) -> Iterator[Gate]:
    """What no statistic can excuse: contract, test patients in training, approvals."""
    yield gates.contract(challenger.version.tags.get(models.CONTRACT, "unknown"), params)
    seen = {f"version {challenger.version.version}": challenger.seen(challenger.predictions)}
    if champion is not None:
        seen[f"version {champion.version.version}"] = champion.seen(champion.predictions)
    yield gates.unseen(seen, len(challenger.predictions))
    if params.approvals:
        yield gates.approval(approvals.given(challenger.version), params)


def rows(rivals: "PairedComparison") -> Iterator[tuple[str, float, int]]:
    """(patient, months, event) of the common patients, by which a test set is known."""
    table = rivals.patients
    for patient, months, event in zip(table["patient_id"], table["time_months"], table["event"], strict=True):
        yield str(patient), float(months), int(event)
