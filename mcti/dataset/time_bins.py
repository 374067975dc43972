"""Time bins of the discrete-time survival model, from the event times of a training part."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag, entries
from mcti.errors import DataError
from mcti.params import BinParams


def bin_edges(times: np.ndarray, events: np.ndarray, params: BinParams) -> tuple[float, ...]:
    """B + 1 strictly increasing edges in months from the uncensored times of a training part; the first is 0.

    quantile  the inner edges are the 1/B … (B-1)/B quantiles of the uncensored times; tied quantiles move to the next
              event time, so that every bin contains an event time
    uniform   equal widths up to the last uncensored time
    The last edge is the longest follow-up, censored or not. times (n,) months, events (n,) bool.

    Raises DataError when the events occur at fewer than B different times.
    """
    event_times = np.unique(times[events].astype(np.float64))
    count = params.count
    if len(event_times) < count:
        what = f"events at {len(event_times)} different times, and {count} time bins"
        raise DataError(what, "the training part", "set train.bins.count lower, or choose fewer folds")
    if params.placement == "uniform":
        inner = np.linspace(0.0, event_times[-1], count + 1)[1:-1]
    else:
        inner = _separate_ties(np.quantile(times[events], np.arange(1, count) / count), event_times)
    last = float(times.max())
    return (0.0, *(float(edge) for edge in inner), last if last > inner[-1] else float(np.nextafter(inner[-1], np.inf)))


def _separate_ties(quantiles: np.ndarray, event_times: np.ndarray) -> np.ndarray:
    """The quantiles, each above the one before: a tied one moves to the next event time."""
    edges: list[float] = []
    for position, edge in enumerate(quantiles):
        # Leaves one event time for each edge that follows.
        ceiling = event_times[len(event_times) - (len(quantiles) - position)]
        floor = edges[-1] if edges else event_times[0]
        above = event_times[event_times > floor]
        edges.append(float(min(max(edge, above[0]) if edge <= floor else edge, ceiling)))
    return np.array(edges)


def bin_index(times: Tensor, edges: Sequence[float]) -> Tensor:
    """The bin of each time in months, (b,) -> (b,) int64: bin j is [edges[j], edges[j + 1]), the last has no end."""
    inner = torch.tensor(list(edges[1:-1]), dtype=torch.float64)
    return torch.searchsorted(inner, times.double(), right=True)


def base_hazard(bags: Sequence[PatientBag], edges: Sequence[float]) -> Tensor:
    """(B,) share of the patients who reach a bin and have the event in it; half a patient is added to either count.

    A patient who enters later than the origin counts from the entry on, in that bin for the rest of it.

    The half patients keep the share off 0 and 1. Training starts at these hazards: from hazards of one half, a short
    run would spend most of its steps on the mean.
    """
    bins = bin_index(torch.tensor([bag.time_months for bag in bags], dtype=torch.float64), edges)
    count = len(edges) - 1
    events = torch.bincount(bins[torch.tensor([bag.event for bag in bags])], minlength=count)
    reached = torch.bincount(bins, minlength=count).flip(0).cumsum(0).flip(0)
    if entries(bags) is not None:
        reached = at_risk_shares(bags, edges).sum(0)
    return ((events + 0.5) / (reached + 1)).float()


def at_risk_shares(bags: Sequence[PatientBag], edges: Sequence[float]) -> Tensor:
    """(n, B) float64 share of each bin in which a patient is at risk: 0 before the entry and after the last bin.

    The bin of the last follow-up counts as a whole, as in `base_hazard`.
    """
    bins = bin_index(torch.tensor([bag.time_months for bag in bags], dtype=torch.float64), edges)
    entry = torch.tensor([bag.entry_months for bag in bags], dtype=torch.float64)
    return (bins[:, None] >= torch.arange(len(edges) - 1)).double() * (1 - shares_before(entry, edges))


def shares_before(months: Tensor, edges: Sequence[float]) -> Tensor:
    """(n,) months -> (n, B) float64 share of each bin that lies before them, 0 to 1; edges (B + 1) in months."""
    bounds = torch.tensor(list(edges), dtype=torch.float64)
    start, end = bounds[:-1], bounds[1:]
    return ((months.double()[:, None] - start) / (end - start)).clamp(0, 1)
