"""The state of a training run: what a step reads and changes, and how it becomes a checkpoint and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mcti.model.network import MCTI
from mcti.model.peers import Peer
from mcti.training.checkpoints import Checkpoint


class State:
    """Weights, moments, averaged weights, step number, sums of the running epoch and rows of the finished ones."""

    def __init__(self, net: MCTI | Peer, optimizer: torch.optim.AdamW, ema: float) -> None:
        self.net, self.optimizer, self.ema = net, optimizer, ema
        self.step = 0
        self.first_loss = self.last_loss = 0.0
        self.sums: dict[str, float] = {}
        self.patients = 0
        self.history: list[dict[str, float]] = []
        self.average = {name: value.clone() for name, value in net.state_dict().items()} if ema else {}

    def update(self, parts: Mapping[str, float], patients: int) -> None:
        """Move the weights along the gradients and count the step; `parts` are means over `patients`."""
        self.optimizer.step()
        self._follow()
        if self.step == 0:
            self.first_loss = parts["loss"]
        self.step, self.last_loss, self.patients = self.step + 1, parts["loss"], self.patients + patients
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * patients

    def close_epoch(self, epoch: int, rate: float) -> None:
        """Turn the sums into a row of the history."""
        means = {name: value / self.patients for name, value in self.sums.items()}
        self.history.append({"epoch": float(epoch + 1), **means, "learning_rate": rate})
        self.sums, self.patients = {}, 0

    def kept(self) -> MCTI | Peer:
        """The network with the weights that are the result: the last, or their running average."""
        if self.average:
            self.net.load_state_dict(self.average)
        return self.net

    def checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """Everything of the run, as tensors and plain values."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for name, moments in self._moments():
            tensors |= {f"optimizer.{name}.{kind}": value for kind, value in moments.items()}
        values = {name: getattr(self, name) for name in _PLAIN}
        return Checkpoint(self.step, tensors, values, identity)

    def load(self, checkpoint: Checkpoint | None) -> None:
        """Take over a checkpoint of the same run; None: stay at the start."""
        if checkpoint is None:
            return
        tensors = checkpoint.tensors
        self.net.load_state_dict(_below("net.", tensors))
        if self.ema:
            self.average = {k: v.clone().to(self.average[k].device) for k, v in _below("average.", tensors).items()}
        for name, parameter in self.net.named_parameters():
            moments = _below(f"optimizer.{name}.", tensors)
            if moments:
                # The count of steps stays on the CPU, where AdamW keeps it.
                self.optimizer.state[parameter] = {
                    kind: value.clone() if kind == "step" else value.to(parameter.device).clone()
                    for kind, value in moments.items()
                }
        self.step = checkpoint.step
        for name in _PLAIN:
            setattr(self, name, checkpoint.values[name])

    def _follow(self) -> None:
        with torch.no_grad():
            for name, value in self.net.state_dict().items() if self.average else ():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - self.ema)
                else:
                    self.average[name].copy_(value)

    def _moments(self) -> list[tuple[str, dict[str, Tensor]]]:
        named: list[tuple[str, nn.Parameter]] = list(self.net.named_parameters())
        return [(name, self.optimizer.state[p]) for name, p in named if p in self.optimizer.state]


_PLAIN = ("first_loss", "last_loss", "sums", "patients", "history")


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
