"""What a model remembers of its training patients: shares below a few knots of each column, no patient's own value.

The sketch travels in model.json, so that any later patient can be held against the training part without its data:
by `mcti monitor` (drift) and by `mcti predict` (out of distribution). It is fitted on the training part alone.
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
from mcti.model.trained import Fitted

Patch = NDArray[np.float32]
Table = dict[str, dict[str, FloatArray]]
"""{family: {column: (n,) values, NaN where missing}}"""

MOST_KNOTS = 15
BETWEEN_KNOTS = 5
"""At least so many patients lie between two knots."""
WITHIN = 0.99
"""Share of patients like the training patients whose score is at most 1, over all modalities together."""
CLIP = 10.0
"""Standard deviations at which one column's part in a distance ends: a gene 17,036 sd out would outweigh the rest."""
_TYPICAL = 0.9  # quantile by which the distances of the modalities are made comparable


class Patient(Protocol):
    """What is read of a patient; `mcti.dataset.bags.PatientBag` is one."""

    @property
    def patches(self) -> Tensor | None:
        """(N, D) raw features, or None."""

    @property
    def genes(self) -> Tensor | None:
        """(G,) raw expression, NaN where not measured, or None."""

    @property
    def covariates(self) -> Mapping[str, float | None]:
        """Numeric clinical covariates by name."""

    @property
    def quality(self) -> Mapping[str, float]:
        """Quality of the slides by name, where their extraction counted it."""


@dataclass(frozen=True)
class Column:
    """The empirical distribution of one column at its knots.

    rows  patients, those without a value included;  known  patients with a value
    knots (k,) rising;  below (k,) how many of the known values are at or below each knot: exact, not interpolated
    """

    rows: int
    known: int
    knots: tuple[float, ...]
    below: tuple[int, ...]

    @classmethod
    def of(cls, values: FloatArray, between: int = BETWEEN_KNOTS) -> "Column":
        """The column of (n,) values, NaN where missing; at most 15 knots, `between` patients or more apart."""
        known = np.sort(values[np.isfinite(values)])
        count = min(MOST_KNOTS, max(len(known) // between - 1, 0))
        places = np.round(np.arange(1, count + 1) * len(known) / (count + 1)).astype(int)
        # Halfway between two patients: a value of one patient is never a knot (of two who are equal, it is).
        halfway = (known[places - 1] + known[places]) / 2
        knots = np.unique([float(f"{knot:.6g}") for knot in halfway])
        below = np.searchsorted(known, knots, side="right")
        return cls(len(values), len(known), tuple(map(float, knots)), tuple(map(int, below)))

    @property
    def missing(self) -> int:
        """Patients without a value."""
        return self.rows - self.known

    def quantile(self, level: float) -> float:
        """By straight lines between the knots; NaN where there is none."""
        if not self.knots:
            return float("nan")
        return float(np.interp(level, np.array(self.below) / self.known, self.knots))

    def level(self, value: float) -> float:
        """The inverse of `quantile`, between the first knot's share and the last one's."""
        return float(np.interp(value, self.knots, np.array(self.below) / self.known)) if self.knots else float("nan")

    def spec(self) -> str:
        """`rows known knot:below knot:below …`, one line in model.json."""
        pairs = (f"{knot!r}:{below}" for knot, below in zip(self.knots, self.below, strict=True))
        return " ".join([str(self.rows), str(self.known), *pairs])

    @classmethod
    def from_spec(cls, spec: str) -> "Column":
        """The inverse of `spec`; ValueError when it is something else."""
        rows, known, *pairs = spec.split()
        split = [pair.split(":") for pair in pairs]
        return cls(int(rows), int(known), tuple(float(k) for k, _ in split), tuple(int(b) for _, b in split))


@dataclass(frozen=True)
class ReferenceProfile:
    """Columns of the training patients by family: genes, features, slides, covariates; and the counts.

    cuts     by modality, the distance (see `distances`) at which the score is 1 (see `_cuts`)
    clip     CLIP; infinite for models trained before distances were clipped
    graded   covariates of the model with more than two values: a flag has no distance, and a rare one is not strange
    risk     of the patients that the model was tested on: their out-of-fold risks; no knots where it was tested on none
    seen     of training patients: their risks by this very model. Told apart from `risk` since they spread wider; they
             carry a level from one model's scale to another's (`level_out_of_fold`)
    """

    patients: int
    events: int
    families: Mapping[str, Mapping[str, Column]]
    cuts: Mapping[str, float]
    risk: Column
    seen: Column = Column(0, 0, (), ())
    clip: float = math.inf
    graded: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        patients: Sequence[Patient],
        genes: Sequence[str],
        events: int,
        fitted: Fitted,
        risks: Iterable[float],
        seen: Iterable[float] = (),
        covariates: Sequence[str] = (),
    ) -> "ReferenceProfile":
        """The sketch of a training part; `genes` names the columns of the expression, `risks` are out of fold,
        `covariates` are those that the model reads."""
        columns = table(patients, genes)
        families = {name: {c: Column.of(values) for c, values in part.items()} for name, part in columns.items()}
        # Twos: the out-of-fold risks stand in predictions.csv one by one, and a fold may have few of them.
        out_of_fold, learned = (Column.of(np.array(list(r), dtype=np.float64), between=2) for r in (risks, seen))
        graded = _graded(patients, covariates)
        cuts = _cuts(patients, fitted, covariates, graded)
        return cls(len(patients), events, families, cuts, out_of_fold, learned, CLIP, graded)

    def level_out_of_fold(self, level: float) -> float:
        """The share of the training patients below that risk below which a share `level` of unseen patients lies."""
        return self.seen.level(self.risk.quantile(level))

    def strangeness(
        self,
        patch: Patch | None,
        genes: Tensor | None,
        fitted: Fitted,
        covariates: Mapping[str, float | None] | None = None,
        names: Sequence[str] = (),
    ) -> float | None:
        """How far a patient lies from the training patients, as a share of the cut, the worst modality; above 1: out
        of distribution, as 1 in 100 such patients is. None where nothing can be measured. Arguments: `distances`.

        covariates  raw, by name;  names  of those that the model reads, in its order
        """
        found = distances(patch, genes, fitted, _row(covariates or {}, names, self.graded), self.clip)
        shares = [found[name] / self.cuts[name] for name in found if self.cuts.get(name, 0) > 0]
        return max(shares) if shares else None

    def spec(self) -> dict[str, Any]:
        """As JSON values for model.json."""
        families = {name: {c: column.spec() for c, column in part.items()} for name, part in self.families.items()}
        counts = {"patients": self.patients, "events": self.events}
        risks = {"risk": self.risk.spec(), "seen": self.seen.spec()}
        clip = {} if math.isinf(self.clip) else {"clip": self.clip}
        return {
            **counts,
            "families": families,
            "cuts": dict(self.cuts),
            **clip,
            **risks,
            "graded": list(self.graded),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], where: str) -> "ReferenceProfile":
        """The inverse of `spec`; DataError when it is something else."""
        try:
            families = {
                str(name): {str(c): Column.from_spec(column) for c, column in part.items()}
                for name, part in spec["families"].items()
            }
            cuts = {str(name): float(cut) for name, cut in spec["cuts"].items()}
            risk = Column.from_spec(spec["risk"])
            seen = Column.from_spec(spec.get("seen", "0 0"))  # models of before 2026-11-25 have none
            clip = float(spec.get("clip", math.inf))
            graded = tuple(map(str, spec.get("graded", ())))
            return cls(int(spec["patients"]), int(spec["events"]), families, cuts, risk, seen, clip, graded)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the training reference is malformed ({error})", where, "train this fold again") from error


def mean_patch(patches: Tensor | None) -> Patch | None:
    """(D,) mean over a patient's patches (N, D); None where there is none."""
    return patches.float().numpy().mean(axis=0) if patches is not None and len(patches) else None


def distances(
    patch: Patch | None,
    genes: Tensor | None,
    fitted: Fitted,
    covariates: Tensor | None = None,
    clip: float = CLIP,
) -> dict[str, float]:
    """How far a patient's standardised values lie from the training mean, by modality; values end at `clip`.

    genes       root mean square over those measured: 1 for an average patient
    slides      root mean square over `patch`, the patient's mean
    covariates  the largest absolute value over those known; covariates (V,) raw, as the model reads them

    Distances without correlations: with more columns than patients there is no covariance to invert, and they see a
    wrong scale, platform, stain or unit all the same.
    """
    values = _standardised(patch, genes, fitted, covariates)
    return {name: size for name, part in values.items() if np.isfinite(size := _size(name, part, clip))}


def _standardised(
    patch: Patch | None, genes: Tensor | None, fitted: Fitted, covariates: Tensor | None
) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    if genes is not None:
        found["genes"] = fitted.genes.keeping_gaps(genes.float()).double().numpy()
    if patch is not None:
        found["slides"] = ((patch - fitted.features.mean.numpy()) / fitted.features.sd.numpy()).astype(np.float64)
    if covariates is not None and len(covariates):
        found["covariates"] = fitted.covariates.keeping_gaps(covariates.float()).double().numpy()
    return found


def _size(name: str, values: FloatArray, clip: float) -> float:
    known = np.minimum(np.abs(values[np.isfinite(values)]), clip)
    if not known.size:
        return float("nan")
    return float(known.max() if name == "covariates" else np.sqrt(np.mean(known**2)))


def _cuts(patients: Sequence[Patient], fitted: Fitted, names: Sequence[str], graded: Sequence[str]) -> dict[str, float]:
    """The distance of each modality at which a patient is as far out as 1 in 100 of those like the training patients.

    Distances of the training patients are measured as those of a later patient will be: with the scale that the others
    give. Each modality is divided by its 90 % quantile; of the largest quotient of each patient the cut is the
    ceil(0.99 (n + 1))-th of n in size, so that a later patient lies above with probability 0.01 at most (conformal
    prediction: Vovk, Gammerman and Shafer 2005, section 4.2). With fewer than 99 patients it is the largest, and the
    probability 1 / (n + 1).
    """
    rows = [_of_training(patient, fitted, names, graded) for patient in patients]
    counts = {name: _counts([row[name] for row in rows if name in row]) for name in sorted(set().union(*rows))}
    sizes = [{name: _size(name, _left_out(name, row[name], counts[name]), CLIP) for name in row} for row in rows]
    found: dict[str, float] = {}
    for name in counts:
        known = [row[name] for row in sizes if name in row and math.isfinite(row[name])]
        if known and (typical := float(np.quantile(known, _TYPICAL))) > 0:
            found[name] = typical
    worst = sorted(max(parts) for row in sizes if (parts := [v / found[n] for n, v in row.items() if n in found]))
    if not worst:
        return {}
    limit = worst[min(math.ceil(WITHIN * (len(worst) + 1)), len(worst)) - 1]
    return {name: float(f"{typical * limit:.9g}") for name, typical in found.items()}


def _of_training(
    patient: Patient, fitted: Fitted, names: Sequence[str], graded: Sequence[str]
) -> dict[str, FloatArray]:
    row = _row(patient.covariates, names, graded)
    return _standardised(mean_patch(patient.patches), patient.genes, fitted, row)


def _row(covariates: Mapping[str, float | None], names: Sequence[str], graded: Sequence[str]) -> Tensor:
    """(V,) raw covariates in the order of `names`; NaN where missing or not among `graded`."""
    values = [covariates.get(name) if name in graded else None for name in names]
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)


def _graded(patients: Sequence[Patient], names: Sequence[str]) -> tuple[str, ...]:
    known = {name: {patient.covariates.get(name) for patient in patients} - {None} for name in names}
    return tuple(name for name in names if len(known[name]) > 2)


def _counts(rows: Sequence[FloatArray]) -> FloatArray:
    """(columns,) how many patients have a value."""
    return np.asarray(np.sum([np.isfinite(row) for row in rows], axis=0), dtype=np.float64)


def _left_out(name: str, z: FloatArray, count: FloatArray) -> FloatArray:
    """Values z (columns,) standardised over `count` patients, this one included, as the others alone would give them.

    mean_{-i} = mean - z s / (n - 1),  var_{-i} = s^2 (n / (n - 1)) (1 - z^2 / (n - 1)); of the mean over a patient's
    patches the variance is that of patches, on which one patient weighs little, and stays.
    """
    others = np.maximum(count - 1, 1)
    moved = z * count / others
    if name == "slides":
        return np.asarray(moved)
    left = np.maximum(count / others * (1 - z**2 / others), 1e-12)
    return np.asarray(moved / np.sqrt(left))


def table(patients: Sequence[Patient], genes: Sequence[str]) -> Table:
    """The columns that are compared, one value a patient (their patches are not independent of one another).

    genes       expression by gene;  covariates  by name
    features    mean of each feature over the patient's patches, by number
    slides      quality: patches of the patient, spread of the patches (mean sd over features), and what the extraction
                counted: tissue in a tile, shares of tiles that were blurred or failed
    modalities  1 where the patient has slides, genes; NaN where not
    """
    bags = [patient.patches for patient in patients]
    width = max((bag.shape[1] for bag in bags if bag is not None), default=0)
    means, spread, count = np.full((len(bags), width), np.nan), np.full(len(bags), np.nan), np.full(len(bags), np.nan)
    expression = np.full((len(bags), len(genes)), np.nan)
    for row, (patient, bag) in enumerate(zip(patients, bags, strict=True)):
        if patient.genes is not None:
            expression[row] = patient.genes.double().numpy()
        if bag is not None and len(bag) and bag.shape[1] == width:
            rows = bag.numpy().astype(np.float64)  # numpy: sums in one order, whatever torch's threads
            means[row], count[row] = rows.mean(axis=0), len(rows)
            spread[row] = rows.std(axis=0).mean()
    names = sorted({name for patient in patients for name in patient.covariates})
    counted = sorted({name for patient in patients for name in patient.quality})
    quality = {name: np.array([patient.quality.get(name, np.nan) for patient in patients]) for name in counted}
    return {
        "genes": dict(zip(map(str, genes), expression.T, strict=True)),
        "features": {str(number): column for number, column in enumerate(means.T)},
        "slides": {"patches": count, "spread": spread, **quality},
        "covariates": {name: _numbers(patients, name) for name in names},
        "modalities": {
            "slides": np.where([bag is None for bag in bags], np.nan, 1.0),
            "genes": np.where([patient.genes is None for patient in patients], np.nan, 1.0),
        },
    }


def _numbers(patients: Sequence[Patient], name: str) -> FloatArray:
    values = [patient.covariates.get(name) for patient in patients]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
