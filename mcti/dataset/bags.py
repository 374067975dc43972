"""Patients as bags of patches with their genes and outcome; deterministic draws, padded batches, bins and scales.

Nothing here depends on the order of calls, on a worker or on a process: every random choice is a function of
(seed, epoch, patient), so that a resumed, a parallel and an undisturbed run see the same data.
"""

import dataclasses
import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcti.errors import DataError
from mcti.model.axes import Axes
from mcti.model.trained import Fitted, Scale, check_bag, covariate_row
from mcti.params import BinParams


@dataclass(frozen=True)
class PatientBag:
    """One patient as the network sees them, raw: nothing standardised.

    patches  (N, D) float32 features of all slides, or None: no slides
    genes    (G,) float32 expression, NaN where not measured, or None: no expression at all
    subtype  position in the list of classes
    covariates  numeric clinical covariates by name, NaN where missing
    quality     of the slides by name, as their extraction counted it (mcti/dataset/loading.py); no network reads it
    """

    patient_id: str
    patches: Tensor | None
    genes: Tensor | None
    time_months: float
    event: bool
    subtype: int
    covariates: Mapping[str, float | None] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """b patients, padded to the longest bag N of the batch.

    patches (b, N, D) standardised, 0 where padded; mask (b, N) True on real rows; genes (b, G) standardised;
    bins (b,) the time bin; times (b,) months; events (b,) bool; subtypes (b,);
    slides_present, genes_present (b,) bool; covariates (b, V) standardised, NaN where missing, None: none are read
    """

    patient_ids: tuple[str, ...]
    patches: Tensor
    mask: Tensor
    genes: Tensor
    bins: Tensor
    times: Tensor
    events: Tensor
    subtypes: Tensor
    slides_present: Tensor
    genes_present: Tensor
    covariates: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in tensors.items()}
        return dataclasses.replace(self, **moved)

    def hiding(self, slides_present: Tensor, genes_present: Tensor) -> "Batch":
        """The same batch with other flags of presence, (b,) bool each."""
        return dataclasses.replace(self, slides_present=slides_present, genes_present=genes_present)


def check(bags: Sequence[PatientBag], classes: Sequence[str], where: str) -> None:
    """Refuse a training part that cannot be learned from.

    Raises DataError: fewer than two patients, no event, a subtype without a patient, a bag of the wrong width, an
    empty bag, a NaN feature, an infinite gene; the error names the patient or the class.
    """
    if len(bags) < 2 or not any(bag.event for bag in bags):
        what = f"{len(bags)} patients with {sum(bag.event for bag in bags)} events"
        raise DataError(what, where, "choose fewer folds, or a split stratified by event")
    absent = [name for position, name in enumerate(classes) if position not in {bag.subtype for bag in bags}]
    if absent:
        raise DataError(f"no patient of subtype {absent[0]!r}", where, "stratify the split, or merge rare subtypes")
    widths = {bag.patches.shape[-1] for bag in bags if bag.patches is not None}
    for bag in bags:
        if bag.patches is None and bag.genes is None:
            hint = "split with missing_modality drop, or leave the patient out"
            raise DataError("nothing that the model reads", f"{where}, patient {bag.patient_id}", hint)
        if bag.patches is not None:
            check_bag(bag.patches, min(widths), f"{where}, patient {bag.patient_id}")
        if bag.genes is not None and bool(bag.genes.isinf().any()):
            raise DataError("an infinite expression value", f"{where}, patient {bag.patient_id}", "leave it empty")


WINSOR = (0.01, 0.99)
"""Quantiles of the training part at which `train.gene_transform: winsor` cuts."""
KNOTS = 49
"""Quantiles of the training part that `train.gene_transform: rank` keeps: levels of 2 %, 4 % … 98 %."""


def fit(bags: Sequence[PatientBag], params: BinParams, count: int, transform: str = "none") -> Fitted:
    """Scales and bin edges of a training part; nobody outside `bags` has a say. count: genes of the expression table.

    transform  none | winsor | rank, of the genes

    Every patient weighs the same in the scale of the features, however many patches they have.
    """
    genes = torch.stack([bag.genes for bag in bags if bag.genes is not None] or [torch.zeros(count)])
    patches = [bag.patches for bag in bags if bag.patches is not None] or [torch.zeros(1, 1)]
    times = np.array([bag.time_months for bag in bags])
    edges = bin_edges(times, np.array([bag.event for bag in bags]), params)
    return Fitted(genes=fit_scale(genes, transform), features=fit_patient_scale(patches), edges=edges)


def fit_scale(values: Tensor, transform: str = "none") -> Scale:
    """Mean and sd of the columns of (n, columns) after the transform, NaN left out; computed in float64."""
    beside = _transform(values, transform)
    known = Scale(torch.zeros(0), torch.ones(0), **beside).transformed(values).double()
    mean = torch.nanmean(known, dim=0).nan_to_num()  # a column nobody has: 0
    return replace(_scale(mean, torch.nanmean((known - mean) ** 2, dim=0).nan_to_num()), **beside)


def _transform(values: Tensor, transform: str) -> dict[str, Tensor]:
    """What a Scale keeps of the transform: quantiles of the columns of (n, columns), 0 for a column nobody has."""
    if transform == "none":
        return {}
    levels = WINSOR if transform == "winsor" else [(k + 1) / (KNOTS + 1) for k in range(KNOTS)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        found = np.nanquantile(values.double().numpy(), levels, axis=0)
    return {"limits" if transform == "winsor" else "quantile_grid": torch.from_numpy(np.nan_to_num(found)).float()}


def fit_covariates(bags: Sequence[PatientBag], names: Sequence[str]) -> Scale:
    """Scale of these covariates over a training part, missing values left out.

    Raises DataError for a covariate that the cohort does not have, that is infinite or that nobody has.
    """
    table = covariate_table(bags, names)
    for name, column in zip(names, table.T, strict=True):
        if bool(column.isnan().all()):
            hint = "leave it out of train.architecture.covariates"
            raise DataError(f"no patient has a value of covariate {name!r}", "the training part", hint)
    return fit_scale(table)


def covariate_table(bags: Sequence[PatientBag], names: Sequence[str]) -> Tensor:
    """(b, V) raw covariates, NaN where missing."""
    return torch.stack([covariate_row(bag.covariates, names, f"patient {bag.patient_id}") for bag in bags])


def fit_patient_scale(bags: Sequence[Tensor]) -> Scale:
    """Mean and sd of patch features, each patient's bag (N, D) weighing the same."""
    mean = torch.stack([bag.double().mean(dim=0) for bag in bags]).mean(dim=0)
    return _scale(mean, torch.stack([((bag.double() - mean) ** 2).mean(dim=0) for bag in bags]).mean(dim=0))


def _scale(mean: Tensor, variance: Tensor) -> Scale:
    sd = variance.sqrt()
    # Relative to the mean: a constant column differs from its mean by rounding alone, and dividing by that is noise.
    flat = sd <= 1e-6 * (mean.abs() + 1e-6)
    return Scale(mean.float(), torch.where(flat, torch.ones_like(sd), sd).float())


def bin_edges(times: np.ndarray, events: np.ndarray, params: BinParams) -> tuple[float, ...]:
    """B + 1 strictly rising edges in months from the uncensored times of a training part; the first is 0.

    quantile: the inner edges are the 1/B … (B-1)/B quantiles of the uncensored times; tied quantiles move on to the
    next time seen, so that no bin is empty of meaning.  uniform: equal widths up to the last uncensored time.
    The last edge is the longest follow-up, censored or not. times (n,), events (n,) bool.

    Raises DataError when the events stand at fewer than B different times.
    """
    seen = np.unique(times[events].astype(np.float64))
    count = params.count
    if len(seen) < count:
        what = f"events at {len(seen)} different times, and {count} time bins"
        raise DataError(what, "the training part", "set train.bins.count lower, or choose fewer folds")
    if params.placement == "uniform":
        inner = np.linspace(0.0, seen[-1], count + 1)[1:-1]
    else:
        wanted = np.quantile(times[events], np.arange(1, count) / count)
        inner = _apart(wanted, seen)
    last = float(times.max())
    return (0.0, *(float(edge) for edge in inner), last if last > inner[-1] else float(np.nextafter(inner[-1], np.inf)))


def _apart(wanted: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The quantiles, each above the one before and with an event time left for every bin: ties move to times seen."""
    edges: list[float] = []
    for position, edge in enumerate(wanted):
        ceiling = seen[len(seen) - (len(wanted) - position)]  # leaves one time seen for each edge still to come
        floor = edges[-1] if edges else seen[0]
        above = seen[seen > floor]
        edges.append(float(min(max(edge, above[0]) if edge <= floor else edge, ceiling)))
    return np.array(edges)


def bin_of(times: Tensor, edges: Sequence[float]) -> Tensor:
    """The bin of each time in months, (b,) -> (b,) int64: bin j is [edges[j], edges[j + 1]), the last has no end."""
    inner = torch.tensor(list(edges[1:-1]), dtype=torch.float64)
    return torch.searchsorted(inner, times.double(), right=True)


def base_hazard(bags: Sequence[PatientBag], edges: Sequence[float]) -> Tensor:
    """(B,) share of a training part that has the event in each bin, of those who reach it; half a patient on either
    side keeps it off 0 and 1.

    Training starts there: from hazards of one half, a short run would spend most of its steps on the mean.
    """
    bins = bin_of(torch.tensor([bag.time_months for bag in bags], dtype=torch.float64), edges)
    count = len(edges) - 1
    had = torch.bincount(bins[torch.tensor([bag.event for bag in bags])], minlength=count)
    reached = torch.bincount(bins, minlength=count).flip(0).cumsum(0).flip(0)
    return ((had + 0.5) / (reached + 1)).float()


def generator(*key: int | str) -> torch.Generator:
    """A random generator that is a function of `key` alone, the same on every machine and in every process."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw(bag: Tensor, cap: int, key: tuple[int | str, ...]) -> Tensor:
    """At most `cap` rows of (N, D), drawn without replacement, in the order of the bag; `key` decides which."""
    if len(bag) <= cap:
        return bag
    rows = torch.randperm(len(bag), generator=generator("bag", *key))[:cap]
    return bag[rows.sort().values]


def order(lengths: Sequence[int], batch: int, key: tuple[int | str, ...]) -> list[list[int]]:
    """Positions of the patients in batches for one epoch; every patient once.

    Shuffled, then sorted by class of length inside windows of four batches, so that little is padded; inside a class
    (a factor of 1.4) the shuffle stays, so that the company of a patient changes from epoch to epoch. Then the batches
    are shuffled. A last batch of one joins its neighbour: alone it would have no one to compare with.
    """
    random = generator("order", *key)
    shuffled = torch.randperm(len(lengths), generator=random).tolist()
    window = 4 * batch
    by_length: list[int] = []
    for start in range(0, len(shuffled), window):
        by_length += sorted(shuffled[start : start + window], key=lambda place: round(2 * math.log2(lengths[place])))
    batches = [by_length[start : start + batch] for start in range(0, len(by_length), batch)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        lone = batches.pop()
        batches[-1] += lone
    return [batches[position] for position in torch.randperm(len(batches), generator=random).tolist()]


def hold_out(
    bags: Sequence[PatientBag], share: float, key: tuple[int | str, ...]
) -> tuple[list[PatientBag], list[PatientBag]]:
    """`bags` less a random share of the patients with and of those without an event, and that share.

    Each group gives at least one where it has two or more; both parts keep the order of `bags`.
    """
    random, held = generator("hold out", *key), set()
    for event in (False, True):
        group = [position for position, bag in enumerate(bags) if bag.event is event]
        count = max(round(share * len(group)), min(1, len(group) // 2))
        held |= {group[place] for place in torch.randperm(len(group), generator=random)[:count].tolist()}
    kept = [bag for position, bag in enumerate(bags) if position not in held]
    return kept, [bags[position] for position in sorted(held)]


def collate(
    bags: Sequence[PatientBag],
    fitted: Fitted,
    cap: int,
    key: tuple[int | str, ...],
    covariates: Sequence[str] = (),
) -> Batch:
    """One padded, standardised batch; `key` is (seed, epoch) and decides the draw of bags longer than `cap`.

    covariates: names of those that the model reads, in its order.
    """
    rows = [_rows(bag, fitted, cap, key) for bag in bags]
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(r), dtype=torch.bool) for r in rows], batch_first=True)
    times = torch.tensor([bag.time_months for bag in bags], dtype=torch.float64)
    silent = torch.zeros(len(fitted.genes.mean))
    return Batch(
        patient_ids=tuple(bag.patient_id for bag in bags),
        patches=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        mask=mask,
        genes=torch.stack([silent if bag.genes is None else fitted.genes(bag.genes) for bag in bags]),
        bins=bin_of(times, fitted.edges),
        times=times.float(),
        events=torch.tensor([bag.event for bag in bags]),
        subtypes=torch.tensor([bag.subtype for bag in bags]),
        slides_present=torch.tensor([bag.patches is not None for bag in bags]),
        genes_present=torch.tensor([bag.genes is not None for bag in bags]),
        covariates=fitted.covariates.standardised(covariate_table(bags, covariates)) if covariates else None,
    )


_AXES_CAP = 256
"""Patches of a patient that the axes are fitted on: their moments settle long before a whole slide is read."""


def fit_axes(axes: Axes, bags: Sequence[PatientBag], fitted: Fitted) -> None:
    """Principal axes of a training part's standardised genes and patch features, where the network asks for them."""
    if axes.genes is not None:
        known = [fitted.genes(bag.genes) for bag in bags if bag.genes is not None]
        axes.fit_genes(torch.stack(known or [torch.zeros_like(fitted.genes.mean)]))
    if axes.features is not None:
        drawn = [draw(bag.patches, _AXES_CAP, ("axes", bag.patient_id)) for bag in bags if bag.patches is not None]
        axes.fit_features([fitted.features(rows) for rows in drawn or [torch.zeros(1, len(fitted.features.mean))]])


def _rows(bag: PatientBag, fitted: Fitted, cap: int, key: tuple[int | str, ...]) -> Tensor:
    if bag.patches is None:
        return torch.zeros(1, len(fitted.features.mean))
    return fitted.features(draw(bag.patches, cap, (*key, bag.patient_id)))


def digest(bags: Sequence[PatientBag], covariates: Sequence[str] = ()) -> str:
    """MD5 of everything in the bags, in their order: the identity of the data that a checkpoint belongs to.

    covariates: those that training reads; the others have no say.
    """
    total = hashlib.md5(usedforsecurity=False)
    for bag in bags:
        total.update(f"{bag.patient_id}\0{bag.time_months!r}\0{bag.event}\0{bag.subtype}\0".encode())
        for values in (bag.patches, bag.genes):
            if values is not None:
                total.update(f"{tuple(values.shape)}".encode())
                total.update(values.contiguous().numpy().tobytes())
    if covariates:
        total.update(covariate_table(bags, covariates).numpy().tobytes())
    return total.hexdigest()
