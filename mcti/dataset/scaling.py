"""Scales and time bins that are fitted on a training part alone."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag, covariate_table
from mcti.dataset.sampling import draw_patches
from mcti.dataset.time_bins import bin_edges
from mcti.errors import DataError
from mcti.model.axes import Axes
from mcti.model.categories import ClinicalInput, input_columns
from mcti.model.competing_hazard import CompetingHazard
from mcti.model.trained import Fitted, Scale
from mcti.params import BinParams

WINSOR_QUANTILES = (0.01, 0.99)
"""Quantiles of the training part at which `train.gene_transform: winsor` clips."""
RANK_QUANTILES = 49
"""Number of quantiles of the training part that `train.gene_transform: rank` keeps: levels of 2 %, 4 % … 98 %."""
MIN_LEVEL_SD = 0.2
"""Smallest standard deviation of the column of a level, that of a share of 4 %: a rarer level is no extreme input."""
_AXES_CAP = 256
"""Patches per patient that the axes are fitted on: their moments converge long before a whole slide is read."""


def fit_inputs(bags: Sequence[PatientBag], params: BinParams, gene_count: int, transform: str = "none") -> Fitted:
    """Scales and bin edges of a training part; no patient outside `bags` has an influence.

    gene_count  columns of the expression table
    transform   none | winsor | rank, of the genes

    In the scale of the features each patient has the same weight, whatever the number of patches.

    Raises DataError when the events occur at fewer different times than there are bins.
    """
    genes = torch.stack([bag.genes for bag in bags if bag.genes is not None] or [torch.zeros(gene_count)])
    patches = [bag.patches for bag in bags if bag.patches is not None] or [torch.zeros(1, 1)]
    times = np.array([bag.time_months for bag in bags])
    edges = bin_edges(times, np.array([bag.event for bag in bags]), params)
    return Fitted(genes=fit_scale(genes, transform), features=fit_feature_scale(patches), edges=edges)


def fit_competing(bags: Sequence[PatientBag]) -> CompetingHazard | None:
    """The hazard of the competing event in a training part; None where the cohort records no competing events."""
    if all(bag.competing is None for bag in bags):
        return None
    competing = np.array([bool(bag.competing) for bag in bags])
    times, entered = (np.array([getattr(bag, name) for bag in bags]) for name in ("time_months", "entry_months"))
    return CompetingHazard.fit(competing, times, entered)


def fit_scale(values: Tensor, transform: str = "none") -> Scale:
    """Mean and sd of the columns of (n, columns) after the transform, NaN ignored; computed in float64.

    transform  none | winsor | rank
    """
    identity = _transform(values, transform)
    observed = identity.transformed(values).double()
    mean = torch.nanmean(observed, dim=0).nan_to_num()  # a column without any value: 0
    scale = _scale(mean, torch.nanmean((observed - mean) ** 2, dim=0).nan_to_num())
    return replace(identity, mean=scale.mean, sd=scale.sd)


def _transform(values: Tensor, transform: str) -> Scale:
    """A scale of mean 0 and sd 1 with the transform's quantiles of the columns of (n, columns)."""
    identity = Scale(torch.zeros(0), torch.ones(0))
    if transform == "winsor":
        return replace(identity, limits=_quantiles(values, WINSOR_QUANTILES))
    if transform == "rank":
        levels = [(number + 1) / (RANK_QUANTILES + 1) for number in range(RANK_QUANTILES)]
        return replace(identity, quantile_grid=_quantiles(values, levels))
    return identity


def _quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    """(levels, columns) float32 quantiles of the columns, NaN ignored; 0 for a column without any value."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        quantiles = np.nanquantile(values.double().numpy(), levels, axis=0)
    return torch.from_numpy(np.nan_to_num(quantiles)).float()


def fit_covariates(bags: Sequence[PatientBag], inputs: Sequence[ClinicalInput]) -> Scale:
    """Scale of the columns of these covariates over a training part, missing values ignored.

    Raises DataError when the cohort lacks the covariate, a value is infinite, or no patient has a value.
    """
    table = covariate_table(bags, inputs)
    for name, column in zip(input_columns(inputs), table.T, strict=True):
        if bool(column.isnan().all()):
            hint = "remove it from train.architecture.covariates"
            raise DataError(f"no patient has a value of covariate {name!r}", "the training part", hint)
    return fit_clinical_scale(table, inputs)


def fit_clinical_scale(table: Tensor, inputs: Sequence[ClinicalInput]) -> Scale:
    """`fit_scale` of covariates (n, V), with MIN_LEVEL_SD as the smallest standard deviation of a level."""
    scale = fit_scale(table)
    smallest = [0.0 if name in inputs else MIN_LEVEL_SD for name in input_columns(inputs)]
    return replace(scale, sd=torch.maximum(scale.sd, torch.tensor(smallest, dtype=torch.float32)))


def fit_feature_scale(bags: Sequence[Tensor]) -> Scale:
    """Mean and sd of patch features; each patient's bag (N, D) has the same weight."""
    mean = by_patient(bags, lambda bag: bag.double().mean(dim=0)).mean(dim=0)
    return _scale(mean, by_patient(bags, lambda bag: ((bag.double() - mean) ** 2).mean(dim=0)).mean(dim=0))


def by_patient(bags: Sequence[Tensor], row: Callable[[Tensor], Tensor]) -> Tensor:
    """`row` of each bag as (n, columns).

    The table is allocated first: rows that are kept between the temporary copies of bags would each prevent that the
    memory of a copy is used again (3 MB of a patient with 2,000 patches of 192 features).
    """
    first = row(bags[0])
    table = first.new_empty((len(bags), len(first)))
    table[0] = first
    for position in range(1, len(bags)):
        table[position] = row(bags[position])
    return table


def _scale(mean: Tensor, variance: Tensor) -> Scale:
    sd = variance.sqrt()
    # Relative to the mean: a constant column differs from its mean by rounding alone, and dividing by that is noise.
    constant = sd <= 1e-6 * (mean.abs() + 1e-6)
    return Scale(mean.float(), torch.where(constant, torch.ones_like(sd), sd).float())


def fit_axes(axes: Axes, bags: Sequence[PatientBag], fitted: Fitted) -> None:
    """Fit the principal axes of a training part's standardised genes and patch features, where the network has them."""
    genes, features = axis_inputs(bags, fitted)
    fit_axes_to(axes, genes, features)


def fit_axes_to(axes: Axes, genes: Sequence[Tensor], features: Sequence[Tensor]) -> None:
    """Fit the axes to standardised genes (G,) and patches (N, D_in) of patients, as `axis_inputs` returns them."""
    if axes.genes is not None:
        axes.fit_genes(torch.stack(list(genes) or [torch.zeros(axes.genes.shape[1])]))
    if axes.features is not None:
        axes.fit_features(features or [torch.zeros(1, axes.features.shape[1])])


def axis_inputs(bags: Sequence[PatientBag], fitted: Fitted) -> tuple[list[Tensor], Sequence[Tensor]]:
    """Standardised genes (G,) and drawn patches (N, D_in) of the patients who have them."""
    genes = [fitted.genes(bag.genes) for bag in bags if bag.genes is not None]
    return genes, _DrawnPatches([bag for bag in bags if bag.patches is not None], fitted)


class _DrawnPatches(Sequence[Tensor]):
    """Standardised drawn patches (N, D_in) of each patient, computed on access: of 10,000 patients they are 2 GB."""

    def __init__(self, bags: Sequence[PatientBag], fitted: Fitted) -> None:
        self._bags, self._fitted = bags, fitted

    def __len__(self) -> int:
        return len(self._bags)

    def __getitem__(self, position: int) -> Tensor:  # type: ignore[override]  # no slices
        bag = self._bags[position]
        assert bag.patches is not None
        return self._fitted.features(draw_patches(bag.patches, _AXES_CAP, ("axes", bag.patient_id)))


@torch.no_grad()
def scale_axes(axes: Axes, bags: Sequence[PatientBag], fitted: Fitted) -> None:
    """Scale each axis, fitted to other patients, to unit variance in a training part; an axis of zeros stays so."""
    genes, features = axis_inputs(bags, fitted)
    if axes.genes is not None and genes:
        _to_unit_variance(axes.genes, genes)
    if axes.features is not None and features:
        _to_unit_variance(axes.features, features)


def _to_unit_variance(directions: Tensor, rows: Sequence[Tensor]) -> None:
    """Divide each direction (A, p) by the standard deviation of the rows (p,) or (N, p) along it, equal weight each."""
    along = [row.to(directions.device) @ directions.T for row in rows]
    variance = torch.stack([values.double().square().reshape(-1, len(directions)).mean(0) for values in along]).mean(0)
    scale = torch.where(variance > 1e-8, variance, torch.ones_like(variance)).rsqrt()
    directions.mul_(scale[:, None].to(directions.dtype))
