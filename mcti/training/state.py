"""The state of a training run, and its conversion to and from a checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mcti.params import TrainParams
from mcti.training.checkpoints import Checkpoint

_FIRST_SCALE = 256.0
"""Initial loss scale in fp16. The default of torch is 65536, and each overflow until the scale fits loses a step."""


class State:
    """Weights, moments, averaged and best weights, the loss scale, step number, sums of the running epoch and rows of
    the finished ones, and the risks that a comparing loss stores.

    bag_cap  patches of a patient in training: the setting, or less once a GPU was too small for it
    best     {loss, epoch, stale}: lowest inner validation loss so far, its epoch, epochs since; empty without one
    memory   {patient_id: [risk, months]} of former steps, the latest last
    risks    of the patients of the running epoch, in the order of its steps
    """

    def __init__(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, params: TrainParams, device: torch.device
    ) -> None:
        self.net, self.optimizer, self.ema = net, optimizer, params.ema
        self.scaler = torch.amp.GradScaler(device.type, init_scale=_FIRST_SCALE, enabled=params.precision == "fp16")
        self.step, self.bag_cap = 0, params.bag_cap
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}
        self.memory: dict[str, list[float]] = {}
        self.first_loss = self.last_loss = 0.0
        self.sums: dict[str, float] = {}
        self.patients = 0
        self.risks: list[float] = []
        self.history: list[dict[str, float]] = []
        self.average = {}
        if params.ema:  # float32 also for bf16 weights, whose precision is too low for small updates
            self.average = {name: _single(value).clone() for name, value in net.state_dict().items()}

    def update(self, parts: Mapping[str, float], risks: Sequence[float]) -> None:
        """Update the weights and count the step.

        parts  scalar parts of the loss, means over the patients of the step;  risks  of these patients, no unit
        """
        patients = len(risks)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._follow()
        if self.step == 0:
            self.first_loss = parts["loss"]
        self.step, self.last_loss, self.patients = self.step + 1, parts["loss"], self.patients + patients
        self.risks.extend(risks)
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * patients

    def close_epoch(self, epoch: int, rate: float, c_index: float) -> None:
        """Convert the sums of the epoch to a row of the history; c_index: of the patients and risks of the epoch."""
        means = {name: value / self.patients for name, value in self.sums.items()}
        self.history.append({"epoch": float(epoch + 1), **means, "c_index": c_index, "learning_rate": rate})
        self.sums, self.patients, self.risks = {}, 0, []

    def record_validation(self, loss: float, c_index: float) -> None:
        """Record loss (scalar) and C of the inner validation part; store the weights if the loss is the lowest."""
        self.history[-1] |= {"validation": loss, "validation_c_index": c_index}
        if not self.best or loss < self.best["loss"]:
            self.best = {"loss": loss, "epoch": self.history[-1]["epoch"], "stale": 0.0}
            self.best_weights = {name: value.clone() for name, value in self.current().items()}
        else:
            self.best["stale"] += 1

    def store_risks(self, risks: Mapping[str, tuple[float, float]], most: int) -> None:
        """Store the last `most` patients of previous steps, each with its latest (risk, month), no unit and months."""
        for patient, pair in risks.items():
            self.memory.pop(patient, None)
            self.memory[patient] = list(pair)
        self.memory = dict(list(self.memory.items())[-most:]) if most else {}

    def current(self) -> dict[str, Tensor]:
        """The last weights, or their running average, by name and in the shape of the network's parameters.

        They are the result of training without a validation part.
        """
        return self.average or self.net.state_dict()

    def kept(self) -> nn.Module:
        """The network with the weights that are the result: the best, the running average, or the last."""
        kept = self.best_weights or self.current()
        self.net.float().load_state_dict(kept)
        return self.net

    def checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """The whole state of the run, as tensors and plain values."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        for name, moments in self._moments():
            tensors |= {f"optimizer.{name}.{moment}": value for moment, value in moments.items()}
        # As pairs: JSON with sorted keys would lose the order of the stored risks.
        memory = list(self.memory.items())
        values = {name: getattr(self, name) for name in _PLAIN} | {"memory": memory, "scaler": self.scaler.state_dict()}
        return Checkpoint(self.step, tensors, values, identity)

    def load(self, checkpoint: Checkpoint | None) -> None:
        """Restore a checkpoint of the same run; None: the run starts at step 0."""
        if checkpoint is None:
            return
        tensors = checkpoint.tensors
        self.net.load_state_dict(_below("net.", tensors))
        devices = {name: value.device for name, value in self.net.state_dict().items()}
        for prefix, attribute in (("average.", "average"), ("best.", "best_weights")):
            weights = {k: v.clone().to(devices[k]) for k, v in _below(prefix, tensors).items()}
            setattr(self, attribute, weights)
        for name, parameter in self.net.named_parameters():
            moments = _below(f"optimizer.{name}.", tensors)
            if moments:
                # The count of steps stays on the CPU, where the optimizers keep it.
                self.optimizer.state[parameter] = {
                    moment: value.clone() if moment == "step" else value.to(parameter.device).clone()
                    for moment, value in moments.items()
                }
        self.step = checkpoint.step
        for name in _PLAIN:
            setattr(self, name, checkpoint.values[name])
        self.memory = dict(checkpoint.values["memory"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(checkpoint.values["scaler"]))

    def _follow(self) -> None:
        with torch.no_grad():
            for name, value in self.net.state_dict().items() if self.average else ():
                if value.is_floating_point():
                    self.average[name].lerp_(_single(value), 1 - self.ema)
                else:
                    self.average[name].copy_(value)

    def _moments(self) -> list[tuple[str, dict[str, Tensor]]]:
        named: list[tuple[str, nn.Parameter]] = list(self.net.named_parameters())
        return [(name, self.optimizer.state[p]) for name, p in named if p in self.optimizer.state]


_PLAIN = ("first_loss", "last_loss", "sums", "patients", "risks", "history", "bag_cap", "best")


def _single(value: Tensor) -> Tensor:
    """bf16 as float32; other types unchanged."""
    return value.float() if value.dtype == torch.bfloat16 else value


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
