"""Predictions of a frozen model for the patients of a cohort, one at a time as `mcti predict` makes them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray, IntArray
from mcti.dataset.bags import PatientBag
from mcti.dataset.loading import CohortTables
from mcti.errors import DataError
from mcti.evaluation.predictions import Predictions, survival_column
from mcti.progress import Progress
from mcti.registry.ensemble import Ensemble, assigned_member
from mcti.registry.risk_groups import GROUPS
from mcti.steps.predict.step import expression_by_gene

if TYPE_CHECKING:
    from torch import Tensor

_EQUAL = 1e-9  # relative difference of two risks of the same inputs and weights
_SUBTYPE = "P_"  # prefix of the probability of a subtype


@dataclass(frozen=True)
class KnownPatients:
    """Development patients by the fold that predicted them, as their evaluation recorded them.

    risk {fold: (n,) sorted};  survival {fold: {S_<months>: (n,)}}, time_months, event {fold: (n,)}  in the same order
    """

    risk: Mapping[str, FloatArray]
    survival: Mapping[str, Mapping[str, FloatArray]]
    time_months: Mapping[str, FloatArray]
    event: Mapping[str, IntArray]

    @classmethod
    def of(cls, evaluated: pd.DataFrame) -> "KnownPatients":
        """Of (n,) out-of-fold predictions with outcomes; a risk that several patients of a fold have is left out."""
        if evaluated.empty:
            return cls({}, {}, {}, {})
        table = evaluated[~evaluated.duplicated(["fold", "risk"], keep=False)].sort_values("risk")
        columns = [str(name) for name in table if str(name).startswith("S_")]
        parts = {f"fold_{fold}": rows for fold, rows in table.groupby("fold")}
        return cls(
            {name: rows["risk"].to_numpy(dtype=np.float64) for name, rows in parts.items()},
            {name: {c: rows[c].to_numpy(dtype=np.float64) for c in columns} for name, rows in parts.items()},
            {name: rows["time_months"].to_numpy(dtype=np.float64) for name, rows in parts.items()},
            {name: rows["event"].to_numpy(dtype=np.int64) for name, rows in parts.items()},
        )

    def contains(self, bag: PatientBag, rows: Mapping[str, Mapping[str, float]]) -> bool:
        """Whether a patient is a development patient under another id: the fold of that patient gives the same risk.

        Risks are float32, so that two patients may agree by chance: the outcome or all S(t) must be equal, too. A
        longer follow-up under the new id changes the outcome only. rows {member: {risk, S_<months>}} of the patient
        """
        return any(self._same(fold, bag, rows[fold]) for fold in self.risk if fold in rows)

    def _same(self, fold: str, bag: PatientBag, row: Mapping[str, float]) -> bool:
        risk = row["risk"]
        tolerance = _EQUAL * max(1.0, abs(risk))
        first, last = np.searchsorted(self.risk[fold], [risk - tolerance, risk + tolerance])
        columns = [name for name in self.survival[fold] if name in row]
        for position in range(int(first), int(last)):
            outcome = (self.time_months[fold][position], self.event[fold][position])
            curve = [abs(self.survival[fold][name][position] - row[name]) <= _EQUAL for name in columns]
            if outcome == (bag.time_months, int(bag.event)) or (curve and all(curve)):
                return True
        return False


@dataclass(frozen=True)
class CohortPredictions:
    """Predictions of the patients who could be predicted, in the order of `patients`.

    model     mean over the members, as `mcti predict` returns it: risk (n,), S (n, h)
    member    (n,) S at the last horizon by one member per patient, which has the spread of an out-of-fold prediction
    group     (n,) risk group by the development's limits, 0 = lowest
    excluded  {patient: reason};  out_of_distribution  number of flagged patients
    """

    patients: tuple[str, ...]
    model: Predictions
    member: FloatArray
    group: IntArray
    excluded: Mapping[str, str]
    out_of_distribution: int


def predict(
    ensemble: Ensemble,
    tables: CohortTables,
    horizons: FloatArray,
    groups: int,
    known: KnownPatients,
    progress: Progress,
) -> CohortPredictions:
    """Predict every patient of the cohort; a patient whom the model cannot predict is excluded with the reason.

    horizons (h,) months;  groups  number of risk groups;  known  development patients with their risks

    Raises
    DataError when the features have another origin than those of the training, when no patient can be predicted, or
    when a patient is a development patient under another id.
    """
    ids = [str(name) for name in tables.patients["patient_id"]]
    rows: dict[str, dict[str, Any]] = {}
    excluded: dict[str, DataError] = {}
    repeated = []
    for done, patient in enumerate(ids, start=1):
        data = tables.load((patient,))
        ensemble.check_features(data.provenance, str(tables.features))
        bag = data.bags[patient]
        try:
            members = _predict_members(ensemble, bag, data.genes, horizons.tolist())
            rows[patient] = _predict_one(ensemble, bag, data.genes, horizons, groups, members)
        except DataError as error:
            excluded[patient] = error
        else:
            if known.contains(bag, members):
                repeated.append(patient)
        progress(done, len(ids), "patients")
    _check_usable(ids, rows, excluded, repeated)
    return _collect(rows, excluded, horizons, groups)


def _predict_one(
    ensemble: Ensemble,
    bag: PatientBag,
    genes: tuple[str, ...],
    horizons: FloatArray,
    groups: int,
    members: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    expression, name = expression_by_gene(bag, genes), bag.patient_id
    row = ensemble.predict(name, bag.patches, expression, horizons.tolist(), bag.clinical, groups)
    eligible = ensemble.eligible_members(name)
    classes = [column for column in next(iter(members.values())) if column.startswith(_SUBTYPE)]
    shares = {column: math.fsum(members[member][column] for member in eligible) / len(eligible) for column in classes}
    assigned = members[assigned_member(name, eligible)]
    return row | shares | {"member": assigned[survival_column(float(horizons[-1]))]}


def _predict_members(
    ensemble: Ensemble, bag: PatientBag, genes: tuple[str, ...], horizons: Sequence[float]
) -> dict[str, dict[str, float]]:
    """{member: {risk, S_<months>, P_<subtype>}} by every member."""
    vector, subtypes = gene_vector(ensemble, bag, genes), len(ensemble.classes) > 1
    return {
        name: member.predict(bag.patches, vector, horizons, bag.clinical, subtypes=subtypes)
        for name, member in ensemble.members.items()
    }


def gene_vector(ensemble: Ensemble, bag: PatientBag, genes: tuple[str, ...]) -> "Tensor | None":
    """(G,) expression of a patient in the order of the model; None where no gene was measured."""
    expression = expression_by_gene(bag, genes)
    vector = None if expression is None else ensemble.gene_vector(bag.patient_id, expression)
    return None if vector is None or bool(vector.isnan().all()) else vector


def _check_usable(
    ids: Sequence[str], rows: Mapping[str, object], excluded: Mapping[str, DataError], repeated: Sequence[str]
) -> None:
    if repeated:
        what = (
            f"{len(repeated)} of {len(ids)} patients have the risk, and the outcome or S(t), of a development patient, "
            f"the first: {repeated[0]!r}"
        )
        hint = "they are development patients under other ids: test on patients whom the model never saw"
        raise DataError(what, "the cohort", hint)
    if not rows:
        first = next(iter(excluded.values()))
        raise DataError(f"no patient can be predicted, the first: {first.what}", first.where, first.hint)


def _collect(
    rows: Mapping[str, Mapping[str, Any]], excluded: Mapping[str, DataError], horizons: FloatArray, groups: int
) -> CohortPredictions:
    table = list(rows.values())
    names = GROUPS[groups]
    columns = [survival_column(float(months)) for months in horizons]
    return CohortPredictions(
        patients=tuple(rows),
        model=Predictions(
            np.array([row["risk"] for row in table]),
            np.array([[row[name] for name in columns] for row in table]),
            _subtypes(table),
        ),
        member=np.array([row["member"] for row in table]),
        group=np.array([names.index(row["risk_group"]) for row in table]),
        excluded={patient: error.what for patient, error in excluded.items()},
        out_of_distribution=sum(bool(row["out_of_distribution"]) for row in table),
    )


def _subtypes(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame | None:
    """(n, classes) probability of each subtype; None for a model that predicts none."""
    columns = [name for name in rows[0] if name.startswith(_SUBTYPE)]
    table = pd.DataFrame([[row[name] for name in columns] for row in rows], columns=columns)
    return table.rename(columns=lambda name: name.removeprefix(_SUBTYPE)) if columns else None
