"""Reference profile: the distributions of the training patients on a coarse quantile grid, without individual values.

The profile is stored in model.json. With it `mcti monitor` (drift) and `mcti predict` (out of distribution) compare
later patients with the training part without its data. It is fitted on the training part alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcti.arrays import FloatArray
from mcti.errors import DataError
from mcti.model.categories import Category, ClinicalInput, CovariateValue, level_columns
from mcti.model.trained import Fitted

Patch = NDArray[np.float32]
Table = dict[str, dict[str, FloatArray]]
"""{family: {column: (n,) values, NaN where missing}}"""

MAX_GRID_POINTS = 15
"""Largest number of grid points of a column."""
MIN_PATIENTS_BETWEEN = 5
"""Smallest number of patients between two grid points."""
IN_DISTRIBUTION_SHARE = 0.99
"""Share of patients from the training distribution with a score of at most 1, over all modalities."""
CLIP = 10.0
"""Largest contribution of one column to a distance, in standard deviations: a gene at 17,036 sd would dominate it."""
_TYPICAL = 0.9  # quantile of the training distances by which each modality is divided


class Patient(Protocol):
    """The fields of a patient that a profile uses; `mcti.dataset.bags.PatientBag` has them."""

    @property
    def patches(self) -> Tensor | None:
        """(N, D) raw features, or None."""

    @property
    def genes(self) -> Tensor | None:
        """(G,) raw expression, NaN where not measured, or None."""

    @property
    def covariates(self) -> Mapping[str, float | None]:
        """Numeric clinical covariates by name, each in the unit of the cohort table."""

    @property
    def categories(self) -> Mapping[str, str | None]:
        """Categorical clinical covariates by name."""

    @property
    def quality(self) -> Mapping[str, float]:
        """Quality measures of the slides by name, each a share between 0 and 1, where the extraction recorded them."""


@dataclass(frozen=True)
class ColumnProfile:
    """The empirical distribution of one column on its quantile grid.

    rows           patients, including those without a value;  known  patients with a value
    quantile_grid  (k,) rising values
    below          (k,) number of known values at or below each grid point: exact, not interpolated
    """

    rows: int
    known: int
    quantile_grid: tuple[float, ...]
    below: tuple[int, ...]

    @classmethod
    def fit(cls, values: FloatArray, between: int = MIN_PATIENTS_BETWEEN) -> "ColumnProfile":
        """The profile of (n,) values, NaN where missing; at most 15 grid points, `between` or more patients apart."""
        known = np.sort(values[np.isfinite(values)])
        count = min(MAX_GRID_POINTS, max(len(known) // between - 1, 0))
        ranks = np.round(np.arange(1, count + 1) * len(known) / (count + 1)).astype(int)
        # Halfway between two patients, so that a grid point is the value of a patient only if two patients share it.
        halfway = (known[ranks - 1] + known[ranks]) / 2
        grid = np.unique([float(f"{value:.6g}") for value in halfway])
        below = np.searchsorted(known, grid, side="right")
        return cls(len(values), len(known), tuple(map(float, grid)), tuple(map(int, below)))

    @property
    def missing(self) -> int:
        """Patients without a value."""
        return self.rows - self.known

    def quantile(self, level: float) -> float:
        """Value at a level between 0 and 1, interpolated linearly between the grid points; NaN without any."""
        if not self.quantile_grid:
            return float("nan")
        return float(np.interp(level, np.array(self.below) / self.known, self.quantile_grid))

    def level(self, value: float) -> float:
        """The inverse of `quantile`: a share, between those of the first and the last grid point; NaN without any."""
        return (
            float(np.interp(value, self.quantile_grid, np.array(self.below) / self.known))
            if self.quantile_grid
            else float("nan")
        )

    def spec(self) -> str:
        """`rows known value:below value:below …`, one line in model.json."""
        pairs = (f"{value!r}:{below}" for value, below in zip(self.quantile_grid, self.below, strict=True))
        return " ".join([str(self.rows), str(self.known), *pairs])

    @classmethod
    def from_spec(cls, spec: str) -> "ColumnProfile":
        """The inverse of `spec`.

        Raises ValueError when the text has another form
        """
        rows, known, *pairs = spec.split()
        split = [pair.split(":") for pair in pairs]
        return cls(int(rows), int(known), tuple(float(k) for k, _ in split), tuple(int(b) for _, b in split))


@dataclass(frozen=True)
class ReferenceProfile:
    """Column profiles of the training patients by family (genes, features, slides, covariates), and the counts.

    cuts           by modality, the distance (see `distances`) at which the score is 1 (see `_cuts`)
    risk           out-of-fold risks of the test patients of this model; an empty grid without test patients
    training_risk  risks that this model assigns to its own training patients. Their spread is larger than that of
                   `risk`; they convert a level of one model to that of another (`level_out_of_fold`)
    clip           largest contribution of one column to a distance, in standard deviations
    continuous     covariates of the model with more than two values. A binary covariate has no distance: a rare value
                   is not out of distribution
    """

    patients: int
    events: int
    families: Mapping[str, Mapping[str, ColumnProfile]]
    cuts: Mapping[str, float]
    risk: ColumnProfile
    training_risk: ColumnProfile = ColumnProfile(0, 0, (), ())
    clip: float = CLIP
    continuous: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        patients: Sequence[Patient],
        genes: Sequence[str],
        events: int,
        fitted: Fitted,
        risks: Iterable[float],
        training_risks: Iterable[float] = (),
        covariates: Sequence[ClinicalInput] = (),
    ) -> "ReferenceProfile":
        """The profile of a training part.

        genes           names of the columns of the expression vectors
        events          number of training patients with an event
        risks           out-of-fold risks;  training_risks  risks of the training patients by the model itself
        covariates      that the model reads (`ModelConfig.clinical_inputs`)
        """
        columns = column_values(patients, genes, covariates)
        families = {
            name: {c: ColumnProfile.fit(values) for c, values in family.items()} for name, family in columns.items()
        }
        # Two patients per interval suffice: predictions.csv contains each out-of-fold risk, and folds may be small.
        out_of_fold, in_sample = (
            ColumnProfile.fit(np.array(list(values), dtype=np.float64), between=2) for values in (risks, training_risks)
        )
        continuous = _continuous(patients, covariates)
        cuts = _cuts(patients, fitted, covariates, continuous)
        return cls(len(patients), events, families, cuts, out_of_fold, in_sample, CLIP, continuous)

    def level_out_of_fold(self, level: float) -> float:
        """Share of the training patients with a risk below the quantile `level` (0 to 1) of the out-of-fold risks."""
        return self.training_risk.level(self.risk.quantile(level))

    def ood_score(
        self,
        patch: Patch | None,
        genes: Tensor | None,
        fitted: Fitted,
        covariates: Mapping[str, CovariateValue] | None = None,
        inputs: Sequence[ClinicalInput] = (),
    ) -> float | None:
        """Largest ratio, over the modalities, of a patient's distance from the training mean to its cut; no unit.

        A patient with a score above 1 is out of distribution; this applies to 1 in 100 patients from the training
        distribution. None without a measurable modality. Arguments as in `distances`, but

        covariates  raw, by name;  inputs  the covariates that the model reads, in its order
        """
        sizes = distances(patch, genes, fitted, _row(covariates or {}, inputs, self.continuous), self.clip)
        ratios = [sizes[name] / self.cuts[name] for name in sizes if self.cuts.get(name, 0) > 0]
        return max(ratios) if ratios else None

    def spec(self) -> dict[str, Any]:
        """As JSON values for model.json."""
        families = {name: {c: column.spec() for c, column in family.items()} for name, family in self.families.items()}
        return {
            "patients": self.patients,
            "events": self.events,
            "families": families,
            "cuts": dict(self.cuts),
            "clip": self.clip,
            "risk": self.risk.spec(),
            "training_risk": self.training_risk.spec(),
            "continuous": list(self.continuous),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], where: str) -> "ReferenceProfile":
        """The inverse of `spec`.

        Raises DataError when a key is missing or a value has another form
        """
        try:
            families = {
                str(name): {str(c): ColumnProfile.from_spec(column) for c, column in family.items()}
                for name, family in spec["families"].items()
            }
            return cls(
                patients=int(spec["patients"]),
                events=int(spec["events"]),
                families=families,
                cuts={str(name): float(cut) for name, cut in spec["cuts"].items()},
                risk=ColumnProfile.from_spec(spec["risk"]),
                training_risk=ColumnProfile.from_spec(spec["training_risk"]),
                clip=float(spec["clip"]),
                continuous=tuple(map(str, spec["continuous"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the reference profile is malformed ({error})", where, "train this fold again") from error


def mean_patch(patches: Tensor | None) -> Patch | None:
    """(D,) mean over a patient's patches (N, D); None without patches."""
    return patches.float().numpy().mean(axis=0) if patches is not None and len(patches) else None


def distances(
    patch: Patch | None,
    genes: Tensor | None,
    fitted: Fitted,
    covariates: Tensor | None = None,
    clip: float = CLIP,
) -> dict[str, float]:
    """Distance of a patient's standardised values from the training mean, by modality, in standard deviations.

    genes       root mean square over the measured ones: 1 for an average patient
    slides      root mean square over `patch`, the patient's mean patch (D,)
    covariates  largest absolute value of the known ones; covariates (V,) raw, in the order of the model
    clip        limit of each absolute value

    Correlations are ignored: with more columns than patients no covariance can be inverted, and a wrong scale,
    platform, stain or unit shows in these distances as well.
    """
    values = _standardised(patch, genes, fitted, covariates)
    return {name: size for name, part in values.items() if np.isfinite(size := _size(name, part, clip))}


def _standardised(
    patch: Patch | None, genes: Tensor | None, fitted: Fitted, covariates: Tensor | None
) -> dict[str, FloatArray]:
    values: dict[str, FloatArray] = {}
    if genes is not None:
        values["genes"] = fitted.genes.standardised(genes.float()).double().numpy()
    if patch is not None:
        values["slides"] = ((patch - fitted.features.mean.numpy()) / fitted.features.sd.numpy()).astype(np.float64)
    if covariates is not None and len(covariates):
        values["covariates"] = fitted.covariates.standardised(covariates.float()).double().numpy()
    return values


def _size(name: str, values: FloatArray, clip: float) -> float:
    known = np.minimum(np.abs(values[np.isfinite(values)]), clip)
    if not known.size:
        return float("nan")
    return float(known.max() if name == "covariates" else np.sqrt(np.mean(known**2)))


def _cuts(
    patients: Sequence[Patient], fitted: Fitted, inputs: Sequence[ClinicalInput], continuous: Sequence[str]
) -> dict[str, float]:
    """The distance of each modality that 1 in 100 patients from the training distribution exceeds.

    The distance of each training patient is computed with the scale of all others, as for a later patient. Each
    modality is divided by its 90 % quantile. The cut is the ceil(0.99 (n + 1))-th smallest of the patients' largest
    quotients, so that a later patient exceeds it with probability 0.01 at most (conformal prediction: Vovk, Gammerman
    and Shafer 2005, section 4.2). With fewer than 99 patients it is the largest one, and the
    probability 1 / (n + 1).
    """
    rows = [_training_row(patient, fitted, inputs, continuous) for patient in patients]
    counts = {name: _counts([row[name] for row in rows if name in row]) for name in sorted(set().union(*rows))}
    sizes = [{name: _size(name, _left_out(name, row[name], counts[name]), CLIP) for name in row} for row in rows]
    typical: dict[str, float] = {}
    for name in counts:
        known = [row[name] for row in sizes if name in row and math.isfinite(row[name])]
        if known and (quantile := float(np.quantile(known, _TYPICAL))) > 0:
            typical[name] = quantile
    quotients = [[size / typical[name] for name, size in row.items() if name in typical] for row in sizes]
    worst = sorted(max(row) for row in quotients if row)
    if not worst:
        return {}
    limit = worst[min(math.ceil(IN_DISTRIBUTION_SHARE * (len(worst) + 1)), len(worst)) - 1]
    return {name: float(f"{quantile * limit:.9g}") for name, quantile in typical.items()}


def _training_row(
    patient: Patient, fitted: Fitted, inputs: Sequence[ClinicalInput], continuous: Sequence[str]
) -> dict[str, FloatArray]:
    row = _row(patient.covariates, inputs, continuous)
    return _standardised(mean_patch(patient.patches), patient.genes, fitted, row)


def _row(
    covariates: Mapping[str, CovariateValue], inputs: Sequence[ClinicalInput], continuous: Sequence[str]
) -> Tensor:
    """(V,) raw covariates in the order of the columns of `inputs`; NaN where missing or not among `continuous`."""
    values: list[float] = []
    for one in inputs:
        if isinstance(one, Category):
            values += [math.nan] * len(one.columns)
        else:
            value = covariates.get(one) if one in continuous else None
            values.append(value if isinstance(value, float | int) else math.nan)
    return torch.tensor(values, dtype=torch.float32)


def _continuous(patients: Sequence[Patient], inputs: Sequence[ClinicalInput]) -> tuple[str, ...]:
    """Numeric covariates with more than two distinct values."""
    names = [one for one in inputs if isinstance(one, str)]
    known = {name: {patient.covariates.get(name) for patient in patients} - {None} for name in names}
    return tuple(name for name in names if len(known[name]) > 2)


def _counts(rows: Sequence[FloatArray]) -> FloatArray:
    """(columns,) number of patients with a value."""
    return np.asarray(np.sum([np.isfinite(row) for row in rows], axis=0), dtype=np.float64)


def _left_out(name: str, z: FloatArray, count: FloatArray) -> FloatArray:
    """Values z (columns,) standardised over `count` patients, rescaled by mean and variance without this patient.

    mean_{-i} = mean - z s / (n - 1),  var_{-i} = s^2 (n / (n - 1)) (1 - z^2 / (n - 1)). The variance of the patch
    features is taken over patches, where one patient has little weight; for slides it is left as it is.
    """
    others = np.maximum(count - 1, 1)
    moved = z * count / others
    if name == "slides":
        return np.asarray(moved)
    left = np.maximum(count / others * (1 - z**2 / others), 1e-12)
    return np.asarray(moved / np.sqrt(left))


def column_values(patients: Sequence[Patient], genes: Sequence[str], inputs: Sequence[ClinicalInput] = ()) -> Table:
    """The compared columns, one value per patient (patches of one patient are not independent).

    inputs  the covariates that the model reads; its categorical ones are compared by the levels of its training part

    genes       expression by gene
    covariates  numeric ones by name, and the columns of the categorical ones, 1 or 0: a level that did not occur in
                training is a missing value
    features    mean of each feature over the patient's patches, by number
    slides      quality: number of patches, spread of the patches (mean sd over features), and the measures of the
                extraction: tissue in a tile, shares of blurred and of failed tiles
    modalities  1 where the patient has slides, genes; NaN otherwise
    """
    bags = [patient.patches for patient in patients]
    width = max((bag.shape[1] for bag in bags if bag is not None), default=0)
    means, spread, count = np.full((len(bags), width), np.nan), np.full(len(bags), np.nan), np.full(len(bags), np.nan)
    expression = np.full((len(bags), len(genes)), np.nan)
    for row, (patient, bag) in enumerate(zip(patients, bags, strict=True)):
        if patient.genes is not None:
            expression[row] = patient.genes.double().numpy()
        if bag is not None and len(bag) and bag.shape[1] == width:
            # numpy: the order of summation does not depend on the threads of torch
            rows = bag.numpy().astype(np.float64)
            means[row], count[row] = rows.mean(axis=0), len(rows)
            spread[row] = rows.std(axis=0).mean()
    names = sorted({name for patient in patients for name in patient.covariates})
    columns = level_columns([patient.categories for patient in patients], inputs)
    levels = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    measures = sorted({name for patient in patients for name in patient.quality})
    quality = {name: np.array([patient.quality.get(name, np.nan) for patient in patients]) for name in measures}
    return {
        "genes": dict(zip(map(str, genes), expression.T, strict=True)),
        "features": {str(number): column for number, column in enumerate(means.T)},
        "slides": {"patches": count, "spread": spread, **quality},
        "covariates": {name: _numbers(patients, name) for name in names} | levels,
        "modalities": {
            "slides": np.where([bag is None for bag in bags], np.nan, 1.0),
            "genes": np.where([patient.genes is None for patient in patients], np.nan, 1.0),
        },
    }


def _numbers(patients: Sequence[Patient], name: str) -> FloatArray:
    values = [patient.covariates.get(name) for patient in patients]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
