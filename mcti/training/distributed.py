"""One run over several processes (torchrun): each has a share of the patients of a step, and the gradients are summed.

Losses are means over the patients of the whole step (losses.py), so the sum over processes equals the gradient of a
single process. Without torchrun there is one process, and every operation of this module is the identity.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among `world` processes."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, patients: Sequence[T]) -> list[T]:
        """The share of this process; all shares together are the whole, each patient once."""
        return list(patients[self.rank :: self.world])

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; a parameter that no process used keeps none."""
        if self.world == 1:
            return
        every = list(parameters)
        used = torch.tensor([float(p.grad is not None) for p in every], device=every[0].device)
        distributed.all_reduce(used)
        for parameter, count in zip(every, used.tolist(), strict=True):
            if count:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def add(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sum of each named scalar over the processes."""
        if self.world == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        distributed.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def gather(self, contributions: Mapping[int, float], count: int) -> list[float]:
        """The values (count,) of all positions; each process contributes its own as {position: value}."""
        total = self.add({str(position): contributions.get(position, 0.0) for position in range(count)})
        return list(total.values())

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process: all of them must stop at the same step."""
        return bool(self.add({"flag": float(flag)})["flag"])

    def wait(self) -> None:
        """Return when all processes have called this."""
        self.add({"arrived": 1.0})


def ranks() -> Ranks:
    """The rank of this process; joins the process group of torchrun, which the environment describes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        return Ranks()
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(
                int(os.environ.get("LOCAL_RANK", "0"))
            )  # otherwise all processes would use the first GPU
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(distributed.get_rank(), distributed.get_world_size())
