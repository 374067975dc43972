"""Predictions of a frozen model for the patients of a cohort, one at a time as `mcti predict` makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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


@dataclass(frozen=True)
class KnownPatient:
    """A development patient as their evaluation recorded them: the fold that predicted them, and their risk there."""

    fold: str
    risk: float


KnownPatients = Mapping[tuple[float, int], Sequence[KnownPatient]]
"""Development patients by (time_months, event)."""


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
            rows[patient] = _predict_one(ensemble, bag, data.genes, horizons, groups)
        except DataError as error:
            excluded[patient] = error
        else:
            if _is_known(ensemble, bag, data.genes, known):
                repeated.append(patient)
        progress(done, len(ids), "patients")
    _check_usable(ids, rows, excluded, repeated)
    return _collect(rows, excluded, horizons, groups)


def _predict_one(
    ensemble: Ensemble, bag: PatientBag, genes: tuple[str, ...], horizons: FloatArray, groups: int
) -> dict[str, Any]:
    expression, name = expression_by_gene(bag, genes), bag.patient_id
    row = ensemble.predict(name, bag.patches, expression, horizons.tolist(), bag.covariates, groups)
    assigned = assigned_member(name, ensemble.eligible_members(name))
    member = _predict_member(ensemble, assigned, bag, genes, [float(horizons[-1])])
    return row | {"member": member[survival_column(float(horizons[-1]))]}


def _predict_member(
    ensemble: Ensemble, member: str, bag: PatientBag, genes: tuple[str, ...], horizons: Sequence[float]
) -> dict[str, float]:
    vector = gene_vector(ensemble, bag, genes)
    return ensemble.members[member].predict(bag.patches, vector, horizons, bag.covariates)


def gene_vector(ensemble: Ensemble, bag: PatientBag, genes: tuple[str, ...]) -> "Tensor | None":
    """(G,) expression of a patient in the order of the model; None where no gene was measured."""
    expression = expression_by_gene(bag, genes)
    vector = None if expression is None else ensemble.gene_vector(bag.patient_id, expression)
    return None if vector is None or bool(vector.isnan().all()) else vector


def _is_known(ensemble: Ensemble, bag: PatientBag, genes: tuple[str, ...], known: KnownPatients) -> bool:
    """Whether a development patient has the same outcome, and the same risk by the fold that predicted them."""
    candidates = known.get((bag.time_months, int(bag.event)), ())
    for candidate in candidates:
        risk = _predict_member(ensemble, candidate.fold, bag, genes, ensemble.horizons_months[:1])["risk"]
        if abs(risk - candidate.risk) <= _EQUAL * max(1.0, abs(risk)):
            return True
    return False


def _check_usable(
    ids: Sequence[str], rows: Mapping[str, object], excluded: Mapping[str, DataError], repeated: Sequence[str]
) -> None:
    if repeated:
        what = (
            f"{len(repeated)} of {len(ids)} patients have outcome and risk of a development patient, "
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
            np.array([row["risk"] for row in table]), np.array([[row[name] for name in columns] for row in table])
        ),
        member=np.array([row["member"] for row in table]),
        group=np.array([names.index(row["risk_group"]) for row in table]),
        excluded={patient: error.what for patient, error in excluded.items()},
        out_of_distribution=sum(bool(row["out_of_distribution"]) for row in table),
    )
