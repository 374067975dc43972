"""The cost of one prediction: processor time and peak memory for a synthetic patient, measured alternately."""

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
    """seconds: processor time per patient (median);  peak_bytes: largest size of weights and live tensors."""

    model_config = ConfigDict(frozen=True)
    seconds: float
    peak_bytes: int


def measure(models: Mapping[str, Ensemble], patches: int, rounds: int = ROUNDS) -> dict[str, Cost]:
    """The cost of each ensemble for one new patient with `patches` patches.

    Processor time of the predicting thread, not wall time. The models alternate in each round, so that other load on
    the machine affects all of them equally. The peak counts tensors, so that it is the same on every machine.
    """
    inputs = {name: _patient(ensemble, patches) for name, ensemble in models.items()}
    peaks = {name: _peak(ensemble, inputs[name]) for name, ensemble in models.items()}  # also warms up
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, ensemble in models.items():
            start = time.thread_time()
            ensemble.predict(**inputs[name])
            seconds[name].append(time.thread_time() - start)
    return {name: Cost(seconds=statistics.median(seconds[name]), peak_bytes=peaks[name]) for name in models}


def _patient(ensemble: Ensemble, patches: int) -> dict[str, Any]:
    bag = torch.randn(patches, ensemble.features, generator=torch.Generator().manual_seed(0))
    genes: dict[str, float | None] = dict.fromkeys(ensemble.genes, 0.0)
    return {
        "patient_id": "synthetic patient",
        "patches": bag,
        "genes": genes,
        "covariates": ensemble.example_covariates,
    }


def _peak(ensemble: Ensemble, patient: Mapping[str, Any]) -> int:
    """The first prediction stacks the members; later ones share this network, whose weights count as well."""
    ensemble.predict(**patient)
    stacked = ensemble.stacked(ensemble.eligible_members(patient["patient_id"]))
    nets = [member.net.state_dict() for member in ensemble.members.values()]
    nets += [] if stacked is None else [stacked.net.state_dict()]
    weights: int = sum(tensor.nbytes for net in nets for tensor in net.values())
    with _Live() as live:
        ensemble.predict(**patient)
    return weights + int(live.peak)


class _Live(TorchDispatchMode):
    """Counts the bytes of the live tensors that operations created."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._counted: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: otherwise torch imports its compiler, which takes seconds, at the first operation."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if not address or address in self._counted:
            return  # a view of a tensor that is counted already
        self._counted.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._counted.discard(address)
        self.now -= size
