"""One training run step by step: a function of its state and the data alone, for any split into parts or processes."""

import inspect
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mcti.concordance import harrell_c
from mcti.dataset.bags import Dataset, PatientBag, entries
from mcti.dataset.batches import Batch, collate
from mcti.dataset.sampling import batch_order, seeded_generator
from mcti.dataset.scaling import fit_axes
from mcti.dataset.time_bins import base_hazard
from mcti.errors import DataError, OperationalError
from mcti.model.comparators import build
from mcti.model.dropout import part_of_step
from mcti.model.presets import ModelConfig
from mcti.model.prior import Prior
from mcti.model.trained import Fitted
from mcti.params import TrainParams
from mcti.training import bf16_adafactor
from mcti.training.distributed import ranks
from mcti.training.objective import TERMS, Objective, PairTerms
from mcti.training.start import Start
from mcti.training.state import State

_LEAST_SCALE = 2.0**-10
"""Smallest loss scale in fp16: a gradient that overflows at this scale has another cause."""


class OutOfMemory(UserWarning):
    """The GPU had too little memory for a step, which is repeated with fewer patches per patient."""


class Diverged(DataError):
    """The loss or a gradient became NaN or infinite, or the loss far too large."""


@dataclass(frozen=True)
class Task:
    """One model to train.

    bags        the patients of the training part
    fitted      scales and bin edges of the same patients
    seed_key    separates the random choices of models trained with one seed, e.g. ("fold", 3)
    where       the name of the task in messages, e.g. "fold 3"
    validation  patients held out of the training part, whose loss decides when to stop; empty without early stopping
    sources     other cohorts to learn from, raw, with the genes of the target (mcti/dataset/sources.py)
    prior       the registered model to start from
    by_cohort   whether the sources are the cohorts of the training part itself (mcti/dataset/sources.py)
    start       trained weights that training starts from; None: fresh weights
    """

    bags: Sequence[PatientBag]
    fitted: Fitted
    config: ModelConfig
    params: TrainParams
    seed_key: tuple[int | str, ...]
    where: str
    validation: Sequence[PatientBag] = ()
    sources: Sequence[Dataset] = ()
    prior: Prior | None = None
    start: Start | None = None
    by_cohort: bool = False


class Run:
    """One optimizer step after the other; `advance` is a function of the state and the data alone."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.params, self.device, self.ranks = task, task.params, device, ranks()
        seed_everything((task.params.seed, *task.seed_key, "weights"), device)
        net = self._network()
        if task.params.optimizer == "bf16_adafactor":
            bf16_adafactor.to_bf16_matrices(net)
        self.state = State(net, _optimizer(net, task.params, task.seed_key, device), task.params, device)
        self.objective = self._objective()
        self.lengths = [_length(bag, task.params.bag_cap) for bag in task.bags]
        self.steps_per_epoch = self._count_steps()
        self.steps = task.params.epochs * self.steps_per_epoch
        self._order: tuple[int, list[list[int]]] = (-1, [])

    def _network(self) -> nn.Module:
        """The network with its initial weights, on the device."""
        task = self.task
        net = build(task.config).to(self.device)
        fit_axes(net.axes, task.bags, task.fitted)
        net.init_hazard(base_hazard(task.bags, task.fitted.edges).to(self.device))
        if task.start is not None:
            task.start.apply(net, task.bags, task.fitted)
        return net

    def _objective(self) -> Objective:
        task = self.task
        return Objective(task.bags, task.fitted, task.config, task.params, self.device)

    def _count_steps(self) -> int:
        """Steps of an epoch."""
        return len(batch_order(self.lengths, self.params.batch_patients, (0,)))

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or the inner validation loss has not fallen for `patience` of them."""
        exhausted = 0 < self.params.patience <= self.state.best.get("stale", 0)
        return self.state.step >= self.steps or exhausted

    def advance(self, last_checkpoint: str) -> int:
        """One step: forward, loss, backward, update. The last step of an epoch adds a row to the history.

        Returns the number of patients of the step.

        Raises Diverged when the loss or a gradient is not finite or the loss is far too large
        Raises OperationalError when the GPU has too little memory
        """
        state, (epoch, position) = self.state, divmod(self.state.step, self.steps_per_epoch)
        chosen = [self.task.bags[i] for i in self._epoch_order(epoch)[position]]
        if not state.net.training:
            state.net.train()
        try:
            parts, risks = self._gradients(chosen, epoch)
        except DataError as error:  # the solvers reject costs that are not finite
            raise self._diverged(error.what, chosen, last_checkpoint) from error
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(state.net.parameters(), self.params.clip_norm)
        self._guard(parts["loss"], norm, chosen, last_checkpoint)
        rate = learning_rate(state.step, self.steps, self.params)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.update(parts, risks)
        if self.objective.compares:
            pairs = {bag.patient_id: (risk, bag.time_months) for bag, risk in zip(chosen, risks, strict=True)}
            state.store_risks(pairs, self.params.pair_memory)
        if position + 1 == self.steps_per_epoch:
            order = [i for step in self._epoch_order(epoch) for i in step]
            state.close_epoch(epoch, rate, self._epoch_c_index([self.task.bags[i] for i in order]))
            if self.task.validation:
                try:
                    state.record_validation(*self._validate())
                except DataError as error:
                    raise self._diverged(error.what, chosen, last_checkpoint) from error
        return len(chosen)

    def check_weights(self, last_checkpoint: str) -> None:
        """Check the weights after the last update, since no later loss would reveal a value that is not finite.

        Raises Diverged when a weight is not finite
        """
        if not all(bool(weight.isfinite().all()) for weight in self.state.kept().parameters()):
            raise self._diverged("a weight is not finite after the last step", [], last_checkpoint)

    def _gradients(self, chosen: list[PatientBag], epoch: int) -> tuple[dict[str, float], list[float]]:
        """`_accumulate`, repeated once with half the patches of the longest bag if the GPU is out of memory."""
        try:
            return self._accumulate(chosen, epoch)
        except torch.OutOfMemoryError as error:
            longest = max(_length(bag, self.state.bag_cap) for bag in chosen)
            # The other processes wait for the gradients of this one: with several processes there is no retry.
            if self.state.bag_cap < self.params.bag_cap or longest == 1 or self.ranks.world > 1:
                raise self._out_of_memory(longest) from error
        self.state.bag_cap = max(1, longest // 2)
        event = (
            f"{self.task.where}, step {self.state.step}: the GPU is out of memory with {longest} patches per patient"
        )
        warnings.warn(f"{event}; continuing with bag_cap {self.state.bag_cap}", OutOfMemory, stacklevel=2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return self._accumulate(chosen, epoch)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory(self.state.bag_cap) from error

    def _out_of_memory(self, patches: int) -> OperationalError:
        what = f"the GPU is out of memory with {patches} patches per patient"
        hint = "set train.micro_patients to 1, train.bag_cap lower, or train.precision to bf16"
        return OperationalError(what, f"{self.task.where}, step {self.state.step}", hint)

    def _accumulate(self, chosen: list[PatientBag], epoch: int) -> tuple[dict[str, float], list[float]]:
        """Gradients of the mean loss over `chosen`, a few patients in memory at once; losses and risks as numbers."""
        self.state.optimizer.zero_grad(set_to_none=True)
        own_positions = self.ranks.share(range(len(chosen)))
        parts = self._parts(chosen, own_positions)
        whole = len(own_positions) == len(chosen) and len(parts) == 1
        pairs = None if whole or not self.objective.compares else self._pairs(chosen, parts, epoch)
        sums = dict.fromkeys(TERMS, 0.0)
        risks: dict[int, float] = {}
        for rows in parts:
            terms = self._terms(chosen, rows, epoch, pairs)
            total = terms["loss"].sum() / len(chosen)
            self.state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
            for name in TERMS:
                sums[name] += float(terms[name].detach().sum()) / len(chosen)
            risks |= dict(zip(rows, terms["risk"].tolist(), strict=True))
        self.ranks.add_gradients(self.state.net.parameters())
        return self.ranks.add(sums), self.ranks.gather(risks, len(chosen))

    def _parts(self, chosen: list[PatientBag], positions: list[int]) -> list[list[int]]:
        """These positions of a step in parts that are in memory at one time."""
        size = self.params.micro_patients or len(chosen)
        return [positions[start : start + size] for start in range(0, len(positions), size)]

    def _collate(self, bags: list[PatientBag], epoch: int) -> Batch:
        """The patients of a part as a standardised batch, with the patches drawn for this epoch."""
        key = (self.params.seed, epoch)
        return collate(bags, self.task.fitted, self.state.bag_cap, key, self.task.config.clinical_inputs)

    def _terms(
        self, chosen: list[PatientBag], rows: Sequence[int], epoch: int, pairs: tuple[Tensor, Tensor] | None
    ) -> dict[str, Tensor]:
        """The losses of the patients `rows` of a step, with the same random choices as in the whole step."""
        bags = [chosen[row] for row in rows]
        batch = self._collate(bags, epoch).to(self.device)
        compare: PairTerms | None = None
        if self.objective.compares and pairs is None:
            memory = {name: (risk, months) for name, (risk, months) in self.state.memory.items()}
            compare = lambda risk: self.objective.pair_terms(risk, bags, memory)  # noqa: E731
        elif pairs is not None:
            values, slopes = (pair[list(rows)] for pair in pairs)
            compare = lambda risk: values + slopes * (risk - risk.detach())  # noqa: E731
        seed_everything((self.params.seed, *self.task.seed_key, "step", self.state.step, 0), self.device)
        with part_of_step(len(chosen), rows):
            return self.objective(self.state.net, self._hide(batch, epoch), compare)

    def _pairs(self, chosen: list[PatientBag], parts: list[list[int]], epoch: int) -> tuple[Tensor, Tensor]:
        """Terms and slopes of the comparing loss for all patients of a step that is never in memory as a whole.

        An additional forward pass, without gradient and with the same random choices, yields the risks.
        """
        own_risks: dict[int, float] = {}
        with torch.no_grad():
            for rows in parts:
                # The risks do not depend on the pairs, so zeros are used.
                zeros = torch.zeros(2, len(chosen), device=self.device)
                terms = self._terms(chosen, rows, epoch, (zeros[0], zeros[1]))
                own_risks |= dict(zip(rows, terms["risk"].tolist(), strict=True))
        risks = torch.tensor(self.ranks.gather(own_risks, len(chosen)), device=self.device)
        memory = {name: (risk, months) for name, (risk, months) in self.state.memory.items()}
        return self.objective.pair_surrogate(risks, chosen, memory)

    def _validate(self) -> tuple[float, float]:
        """Mean likelihood term and C of the patients held out, whole bags, with the current result weights."""
        net, total, risks = self.state.net, 0.0, []
        last = {name: value.clone() for name, value in net.state_dict().items()}
        net.load_state_dict(self.state.current())
        net.eval()
        with torch.no_grad():
            for bag in self.task.validation:
                longest = _length(bag, sys.maxsize)
                batch = collate([bag], self.task.fitted, longest, (0,), self.task.config.clinical_inputs)
                batch = batch.to(self.device)
                output = self.objective.forward(net, batch)
                total += float(self.objective.likelihood(output.hazard_logits, batch))
                risks.append(float(output.risk))
        net.load_state_dict(last)
        # All processes use the value of the first, so that they stop at the same epoch.
        loss = self.ranks.add({"loss": total / len(self.task.validation) if self.ranks.first else 0.0})["loss"]
        return loss, c_index(self.task.validation, risks)

    def _hide(self, batch: Batch, epoch: int) -> Batch:
        """Modality dropout: hide slides or genes of a patient who has both, with the configured probability."""
        probability = self.params.modality_dropout
        if not probability:
            return batch
        slides, genes = batch.slides_present.clone(), batch.genes_present.clone()
        for row, patient in enumerate(batch.patient_ids):
            random = seeded_generator(self.params.seed, *self.task.seed_key, "hide", epoch, patient)
            draw = float(torch.rand((), generator=random))
            if draw < probability and bool(slides[row]) and bool(genes[row]):
                (slides if draw < probability / 2 else genes)[row] = False
        return batch.with_presence(slides, genes)

    def _guard(self, loss: float, norm: Tensor, chosen: list[PatientBag], last_checkpoint: str) -> None:
        """Stop at a loss that is not finite or far too large, before it reaches the weights or a checkpoint.

        norm  () of all gradients before they were limited
        """
        limit = max(100.0, 20.0 * self.state.first_loss)
        # In fp16 an overflow skips the step and halves the loss scale; at the smallest scale there is another cause.
        fp16 = self.state.scaler.is_enabled() and self.state.scaler.get_scale() > _LEAST_SCALE
        finite = fp16 or bool(norm.isfinite())
        if math.isfinite(loss) and loss <= limit and finite:
            return
        what = f"the loss is {loss:.4g}" if not math.isfinite(loss) or loss > limit else "a gradient is not finite"
        raise self._diverged(what, chosen, last_checkpoint)

    def _diverged(self, what: str, chosen: list[PatientBag], last_checkpoint: str) -> Diverged:
        names = ", ".join(bag.patient_id for bag in chosen[:16]) + (", …" if len(chosen) > 16 else "")
        patients = f", patients {names}" if names else ""
        where = f"{self.task.where}, step {self.state.step}{patients}; last good checkpoint: {last_checkpoint}"
        return Diverged(what, where, "lower train.learning_rate, or check the genes and features of these patients")

    def _epoch_order(self, epoch: int) -> list[list[int]]:
        if self._order[0] != epoch:
            key = (self.params.seed, *self.task.seed_key, epoch)
            self._order = epoch, batch_order(self.lengths, self.params.batch_patients, key)
        return self._order[1]

    def _epoch_c_index(self, bags: list[PatientBag]) -> float:
        """C of the patients of an epoch, in the order of its steps."""
        return c_index(bags, self.state.risks)


def learning_rate(step: int, steps: int, params: TrainParams) -> float:
    """Learning rate at a step (from 0): linear warm-up over the share `warmup_share`, then a half cosine to zero."""
    warm = max(1, round(params.warmup_share * steps))
    if step < warm:
        return params.learning_rate * (step + 1) / warm
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def seed_everything(key: tuple[int | str, ...], device: torch.device) -> None:
    """Seed the generators of torch for a device and the CPU: weights and dropout use them, numpy and random do not.

    `torch.manual_seed` gives the same numbers, and formats the call stack for each kind of device that is not in use:
    milliseconds per step.
    """
    seed = seeded_generator(*key).initial_seed()
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


def c_index(bags: Sequence[PatientBag], risks: Sequence[float]) -> float:
    """Harrell's C of patients and their risks (n,); NaN where no pair of them can be ordered."""
    events, months = [bag.event for bag in bags], [bag.time_months for bag in bags]
    return harrell_c(np.array(events, dtype=bool), np.array(months, dtype=float), np.array(risks, dtype=float),
                     entries(bags))  # fmt: skip


def _length(bag: PatientBag, cap: int) -> int:
    return 1 if bag.patches is None else min(len(bag.patches), cap)


def _optimizer(
    net: nn.Module, params: TrainParams, seed_key: tuple[int | str, ...], device: torch.device
) -> torch.optim.Optimizer:
    """AdamW or bf16 Adafactor; weight decay on matrices only, not on biases and scales of norms."""
    trained = [p for p in net.parameters() if p.requires_grad]
    matrices, rest = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": params.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if params.optimizer == "bf16_adafactor":
        seed = seeded_generator(params.seed, *seed_key, "rounding").initial_seed()
        return bf16_adafactor.Bf16Adafactor(groups, params.learning_rate, seed)
    # One kernel for all weights. On a GPU the default keeps the count of steps on the CPU, as a checkpoint does.
    return _AdamW(groups, lr=params.learning_rate, fused=device.type == "cpu" or None)


class _AdamW(torch.optim.AdamW):
    """AdamW of torch without its decorators for torch.compile, which import the compiler: seconds in every process."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
