"""What one prediction costs: processor time and peak memory of a made-up patient, measured side by side."""

import statistics
import time
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mcti.registry.ensemble import Ensemble

ROUNDS = 5


class Cost(BaseModel):
    """seconds: processor time of one patient (median);  peak_bytes: weights and live tensors at the worst moment."""

    model_config = ConfigDict(frozen=True)
    seconds: float
    peak_bytes: int


def measure(rivals: Mapping[str, Ensemble], patches: int, rounds: int = ROUNDS) -> dict[str, Cost]:
    """The cost of each ensemble on one patient of `patches` patches whom no fold knows.

    Processor time of the one thread that predicts, not wall time, and the rivals in turn, round by round: a busy
    machine slows all of them alike. The peak counts tensors, so that it is the same number on every machine.
    """
    inputs = {name: _patient(ensemble, patches) for name, ensemble in rivals.items()}
    peaks = {name: _peak(ensemble, inputs[name]) for name, ensemble in rivals.items()}  # warms up as well
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, ensemble in rivals.items():
            start = time.thread_time()
            ensemble.predict(**inputs[name])
            seconds[name].append(time.thread_time() - start)
    return {name: Cost(seconds=statistics.median(seconds[name]), peak_bytes=peaks[name]) for name in rivals}


def _patient(ensemble: Ensemble, patches: int) -> dict[str, Any]:
    bag = torch.randn(patches, ensemble.features, generator=torch.Generator().manual_seed(0))
    genes: dict[str, float | None] = dict.fromkeys(ensemble.genes, 0.0)
    return {
        "patient_id": "a made-up patient",
        "patches": bag,
        "genes": genes,
        "covariates": dict.fromkeys(ensemble.covariates, 0.0),
    }


def _peak(ensemble: Ensemble, patient: Mapping[str, Any]) -> int:
    nets = [member.net.state_dict() for member in ensemble.members.values()]
    weights: int = sum(tensor.nbytes for net in nets for tensor in net.values())
    with _Live() as live:
        ensemble.predict(**patient)
    return weights + int(live.peak)


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that operations made and that are still there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if not place or place in self._seen:
            return  # a view of what is counted already
        self._seen.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size
