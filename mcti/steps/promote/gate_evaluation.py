"""Measurements of a challenger against the champion, from which the gates of the registry decide."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.errors import DataError
from mcti.model.names import display
from mcti.params import PromoteParams
from mcti.params.evaluation import GATE_BASELINE as BASELINE
from mcti.redaction import hashed
from mcti.registry import (
    alpha_spending,
    approvals,
    ensemble_files,
    evidence,
    external_validations,
    gates,
    models,
    recalibrated_ensemble,
    recalibrated_versions,
    tracking,
)
from mcti.registry.alpha_spending import Look
from mcti.registry.electronic_signatures import ElectronicSignature
from mcti.registry.external_validations import ExternalValidation
from mcti.registry.gates import Difference, Gate, GateEvaluation
from mcti.registry.ledger import LedgerEntry
from mcti.registry.recalibrated_ensemble import RecalibrationRecord

if TYPE_CHECKING:
    import pandas as pd

    from mcti.evaluation.comparison import Interval
    from mcti.evaluation.paired_comparison import PairedBootstrap, PairedComparison


@dataclass(frozen=True)
class Candidate:
    """A version with its evaluation, which is downloaded below `scratch` at the first use.

    signatures  the electronic signatures on it that count
    """

    version: Any
    scratch: Path
    signatures: tuple[ElectronicSignature, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of weights and assignment."""
        return str(self.version.tags[models.DIGEST])

    @property
    def label(self) -> str:
        """`version 3`."""
        return f"version {self.version.version}"

    @cached_property
    def folder(self) -> Path:
        """The folder of the ensemble."""
        return models.fetch(f"models:/{self.version.name}/{self.version.version}", self.scratch / "model")

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """Out-of-fold predictions with outcomes, one row per patient."""
        return evidence.read_predictions(self._file("predictions.csv"))

    @cached_property
    def endpoint(self) -> str | None:
        """The end point of the training, where it is recorded."""
        return ensemble_files.endpoint(self.folder)

    @cached_property
    def groups(self) -> "pd.DataFrame":
        """Columns patient_id and the labels of the groups that have their own gates."""
        import pandas as pd

        return pd.read_csv(self._file("groups.csv"), dtype=str, keep_default_na=False)

    @cached_property
    def regimes(self) -> dict[str, "pd.DataFrame"]:
        """{regime: rows} of the predictions without one modality; empty for a model that requires all modalities."""
        if evidence.REGIMES not in evidence.names(models.run_of(self.version)):
            return {}
        table = evidence.read_predictions(self._file(evidence.REGIMES))
        return {str(regime): rows for regime, rows in table.groupby("regime")}

    @cached_property
    def primary_baseline(self) -> "tuple[str, pd.DataFrame] | None":
        """Name and out-of-fold predictions (one row per test row) of the primary baseline; None: there are none."""
        comparison = self.metrics[evidence.MODEL]["comparison"]
        name = next((name for name, contrast in comparison.items() if contrast.get("primary")), None)
        if name is None or evidence.BASELINES not in evidence.names(models.run_of(self.version)):
            return None
        table = evidence.read_predictions(self._file(evidence.BASELINES))
        rows = table[table["model"] == name]
        return (name, rows) if len(rows) else None

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """metrics.json of the evaluation."""
        metrics: Mapping[str, Any] = storage.read_json(self._file("metrics.json"))
        return metrics

    @cached_property
    def external_validations(self) -> list[ExternalValidation]:
        """The external validations of these weights."""
        with tracking.service() as client:
            return external_validations.read(client, self.version, self.scratch / "external")

    def counts(self) -> dict[str, int]:
        """Evaluated patients and events; a patient whom several folds tested counts once."""
        patients = self.predictions.drop_duplicates("patient_id")
        return {"patients": len(patients), "events": int(patients["event"].sum())}

    def trained_on_tested(self) -> int:
        """Number of test rows (patient_id, fold) whose patient was in the training part of the same fold."""
        trained = ensemble_files.trained_on(self.folder)
        pairs = zip(self.predictions["patient_id"], self.predictions["fold"], strict=True)
        # A version that was registered with --redact has hashes instead of ids.
        return sum(not {patient, hashed(patient)}.isdisjoint(trained[f"fold_{fold}"]) for patient, fold in pairs)

    def _file(self, name: str) -> Path:
        return evidence.fetch(models.run_of(self.version), name, self.scratch)


@dataclass(frozen=True)
class GateContext:
    """Challenger and comparator on their common patients; comparator: its name in the reports."""

    paired: "PairedComparison"
    comparator: str
    params: PromoteParams

    @cached_property
    def bootstrap(self) -> "PairedBootstrap":
        """Resamples of the common patients."""
        from mcti.evaluation.paired_comparison import PairedBootstrap

        return PairedBootstrap.draw(self.paired, self.params.bootstrap)

    def interval(self, pair: Any, confidence: float | None = None) -> "Interval":
        """The interval of a difference of two statistics.

        pair  statistics of both models;  confidence  between 0 and 1, default: `promote.confidence`
        """
        return self.bootstrap.difference(pair, self.params.confidence if confidence is None else confidence)

    def difference(self, metric: str, interval: "Interval | None", lower_is_better: bool = False) -> Difference:
        """An interval with the counts of the common patients; positive: the challenger is better."""
        counts = {"patients": len(self.paired.patients), "events": self.paired.events}
        ends = {"value": None, "low": None, "high": None} if interval is None else interval.as_dict()
        return Difference(
            metric=metric, against=self.comparator, **counts, **(_negated(ends) if lower_is_better else ends)
        )


def evaluate_gates(
    challenger: Candidate, champion: Candidate | None, entries: Sequence[LedgerEntry], params: PromoteParams
) -> GateEvaluation:
    """All gates of a challenger.

    champion  None: no version is the champion;  entries  of the ledger: earlier evaluations on these test patients

    Raises DataError when the challenger has no evaluation, that of a first champion has no clinical Cox baseline, or
    challenger and champion were trained for different end points.
    """
    models.run_of(challenger.version)  # before its files are downloaded: another program may have made the version
    if champion is not None:
        check_same_endpoint(challenger.endpoint, champion.endpoint, f"{challenger.label} and {champion.label}")
    record = recalibrated_ensemble.read(challenger.folder)
    if record is not None:
        return gates.combine(
            [_recalibration(challenger, champion, record, params), *_fixed_rules(challenger, champion, params)], None
        )
    if champion is None:
        difference = against_baseline(challenger)
        return gates.combine(
            [
                gates.first_champion(difference),
                _primary_baseline(challenger, params),
                *_fixed_rules(challenger, None, params),
            ],
            difference,
        )
    from mcti.evaluation.paired_comparison import PairedComparison

    paired = PairedComparison.from_tables(challenger.predictions, champion.predictions)
    look = alpha_spending.next_look(entries, test_set_rows(paired), f"{challenger.digest}:{champion.digest}", params)
    context = GateContext(paired, f"champion {champion.label}", params)
    difference, statistical = compare(context, challenger.groups, look)
    enough = paired.events >= params.min_events
    further = [*_regimes(challenger, champion, context), *_costs(challenger, champion, params)] if enough else []
    return gates.combine(
        [*statistical, _primary_baseline(challenger, params), *further, *_fixed_rules(challenger, champion, params)],
        difference,
        look if enough and look.alpha > 0 else None,
    )


def check_same_endpoint(challenger: str | None, champion: str | None, where: str) -> None:
    """Compare the recorded end points of challenger and champion; None: not recorded.

    Raises DataError when they differ: the gates would score the champion on another end point than its own
    """
    if challenger and champion and challenger != champion:
        what = f"the challenger was trained for {challenger}, the champion for {champion}"
        raise DataError(what, where, "register each endpoint under its own name (register.name)")


def compare(context: GateContext, labels: "pd.DataFrame", look: Look) -> tuple[Difference, list[Gate]]:
    """The statistical gates, and the difference in Uno's C.

    Superiority in Uno's C; Harrell's C (informational); non-inferiority in Brier score, calibration and groups.

    labels  patient_id and one column per grouping;  look  determines the level of the superiority gate
    """
    paired = context.paired
    if paired.events < context.params.min_events or look.alpha <= 0:
        difference = context.difference("Uno's C", None)
        return difference, [gates.superiority(difference, look, context.params)]
    difference = context.difference("Uno's C", context.interval(paired.uno_c(), 1 - 2 * look.alpha))
    harrell = context.difference("Harrell's C", context.interval(paired.harrell_c()))
    return difference, [
        gates.superiority(difference, look, context.params),
        Gate(name="harrell", verdict=gates.INFORMATIONAL, reason=str(harrell), numbers=harrell.model_dump(mode="json")),
        *_survival_probabilities(context),
        *_groups(context, labels),
    ]


def against_baseline(challenger: Candidate) -> Difference:
    """The difference to the clinical Cox model in the challenger's evaluation.

    Raises DataError when the evaluation does not contain this baseline.
    """
    comparison = challenger.metrics[evidence.MODEL]["comparison"]
    if BASELINE not in comparison:
        hint = f"add {BASELINE} to evaluate.baselines and run `mcti evaluate` and `mcti register` again"
        raise DataError(f"the evaluation has no baseline {BASELINE}", "metrics.json of the challenger", hint)
    return Difference(against=display(BASELINE), **challenger.counts(), **comparison[BASELINE]["difference"])


def _primary_baseline(challenger: Candidate, params: PromoteParams) -> Gate:
    if challenger.primary_baseline is None:
        return gates.no_primary_baseline(params)
    from mcti.evaluation.paired_comparison import PairedComparison

    name, table = challenger.primary_baseline
    paired = PairedComparison.from_tables(challenger.predictions, table)
    return against_primary_baseline(GateContext(paired, display(name), params))


def against_primary_baseline(context: GateContext) -> Gate:
    """The gate of the primary baseline; below ten events no difference has an interval."""
    from mcti.evaluation.subgroups import MIN_INTERVAL_EVENTS

    paired, enough = context.paired, context.paired.events >= MIN_INTERVAL_EVENTS
    c_index = context.interval(paired.uno_c()) if enough else None
    brier = context.interval(paired.ibs()) if enough and len(paired.horizons) else None
    metric = "decrease of the integrated Brier score"
    return gates.primary_baseline(
        context.difference("Uno's C", c_index),
        context.difference(metric, brier, lower_is_better=True),
        context.params,
    )


def _negated(ends: Mapping[str, float | None]) -> dict[str, float | None]:
    """The interval {value, low, high} of the negated statistic."""
    value, low, high = (None if ends[end] is None else -ends[end] for end in ("value", "low", "high"))  # type: ignore[operator]
    return {"value": value, "low": high, "high": low}


def _survival_probabilities(context: GateContext) -> Iterator[Gate]:
    """Non-inferiority of the survival probabilities: Brier score and calibration."""
    paired, params = context.paired, context.params
    for name, metric, pair, margin in (
        ("brier score", "integrated Brier score", paired.ibs, params.ibs_margin),
        ("calibration", "calibration index", paired.ici, params.calibration_margin),
    ):
        interval = context.interval(pair()) if len(paired.horizons) else None
        yield gates.non_inferiority(name, context.difference(metric, interval, lower_is_better=True), margin)


def _groups(context: GateContext, labels: "pd.DataFrame") -> Iterator[Gate]:
    """Non-inferiority in each group with enough events for an interval."""
    from mcti.evaluation.subgroups import MIN_INTERVAL_EVENTS

    paired, params = context.paired, context.params
    for name, member in paired.group_members(labels):
        events = int(paired.event[member].sum())
        if events < MIN_INTERVAL_EVENTS or member.all():
            continue
        ends = context.interval(paired.uno_c(member)).as_dict()
        counts = {"patients": int(member.sum()), "events": events}
        difference = Difference(metric="Uno's C", against=context.comparator, **counts, **ends)
        yield gates.non_inferiority(name, difference, params.group_margin, events >= params.group_min_events)


def _regimes(challenger: Candidate, champion: Candidate, context: GateContext) -> Iterator[Gate]:
    """Non-inferiority in Uno's C without one modality, where both models have such predictions."""
    from mcti.evaluation.paired_comparison import PairedComparison

    params = context.params
    for regime in sorted({*challenger.regimes, *champion.regimes}):
        name = f"regime {regime}"
        if regime not in champion.regimes:
            yield Gate(name=name, verdict=gates.INFORMATIONAL, reason="the champion has no predictions for it")
            continue
        if regime not in challenger.regimes:
            reason = "the champion has predictions for it, the challenger has none"
            yield Gate(name=name, verdict=gates.REJECT, reason=reason)
            continue
        tables = challenger.regimes[regime], champion.regimes[regime]
        paired = PairedComparison.from_tables(*tables)
        inner = GateContext(paired, context.comparator, params)
        difference = inner.difference("Uno's C", inner.interval(paired.uno_c()))
        yield gates.non_inferiority(name, difference, params.group_margin, paired.events >= params.group_min_events)


def _costs(challenger: Candidate, champion: Candidate, params: PromoteParams) -> list[Gate]:
    """Latency and memory of one prediction."""
    from mcti.registry import cost

    loaded = {"challenger": ensemble_files.load(challenger.folder), "champion": ensemble_files.load(champion.folder)}
    costs = cost.measure(loaded, params.benchmark_patches)
    new, current = costs["challenger"], costs["champion"]
    seconds, megabytes = "processor seconds per patient", "MB at the peak"
    return [
        gates.max_ratio("latency", new.seconds, current.seconds, params.max_latency_ratio, seconds),
        gates.max_ratio("memory", new.peak_bytes / 1e6, current.peak_bytes / 1e6, params.max_memory_ratio, megabytes),
    ]


def _recalibration(
    challenger: Candidate, champion: Candidate | None, record: RecalibrationRecord, params: PromoteParams
) -> Gate:
    """The gate of a recalibrated challenger; the champion is the parent where it has the weights of the parent.

    That a version is recalibrated, and from which weights, is part of its digest; the tags can be altered.
    """
    same = champion is not None and champion.digest == record.parent
    parent = challenger.version.tags.get(recalibrated_versions.PARENT, f"with the digest {record.parent[:12]}…")
    current = "" if champion is None else parent if same else str(champion.version.version)
    return gates.recalibration(challenger.external_validations, parent, current, params)


def _fixed_rules(challenger: Candidate, champion: Candidate | None, params: PromoteParams) -> list[Gate]:
    """Rules that do not depend on the comparison: data contract, test patients in the training, approvals."""
    candidates = [challenger] if champion is None else [challenger, champion]
    trained = {candidate.label: candidate.trained_on_tested() for candidate in candidates}
    rules = [
        gates.data_contract(challenger.version.tags.get(models.CONTRACT, "unknown"), params),
        gates.no_training_patients(trained, len(challenger.predictions)),
    ]
    if recalibrated_on := recalibrated_ensemble.recalibrated_on(challenger.folder):
        overlap = {v.cohort: len(v.hashes & recalibrated_on) for v in challenger.external_validations}
        rules.append(gates.no_recalibration_patients(overlap))
    if params.external:
        rules.append(gates.external_validation(challenger.external_validations, params))
    if params.approvals:
        rules.append(_approval(challenger, params))
    return rules


def _approval(challenger: Candidate, params: PromoteParams) -> Gate:
    signatures = challenger.signatures
    signed = [signature.who for signature in signatures]
    approvers = signed if params.signed_approvals else approvals.approvers(challenger.version)
    return gates.approval(approvers, params, [signature.model_dump(mode="json") for signature in signatures])


def test_set_rows(paired: "PairedComparison") -> Iterator[tuple[str, float, int]]:
    """(patient, months, event) of the common patients: the identity of a test set."""
    table = paired.patients
    for patient, months, event in zip(table["patient_id"], table["time_months"], table["event"], strict=True):
        yield str(patient), float(months), int(event)
