"""The training loop: plain torch, the same bits on every run, from the start or from a checkpoint.

Every random choice is a function of (seed, step) or (seed, epoch, patient), never of what was drawn before. So the
state of a run is its weights, its moments and a step number, and a run that was killed goes on exactly.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcti.errors import DataError, MctiError
from mcti.model.peers import build
from mcti.model.presets import ModelConfig
from mcti.model.trained import Fitted, TrainedModel
from mcti.params import TrainParams
from mcti.training import bags as bagging
from mcti.training import checkpoints, losses
from mcti.training.bags import Batch, PatientBag
from mcti.training.distributed import Ranks, ranks
from mcti.training.state import State

_TERMS = ("loss", "survival", "subtype", "instance")

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is running)."""


class Paused(MctiError):
    """A request to stop came (SIGTERM): the state is saved, and the same command goes on from it."""

    exit_code, code = 0, "paused"


class Diverged(DataError):
    """The loss or a gradient became NaN or infinite, or the loss ran away."""


@dataclass(frozen=True)
class Task:
    """One model to train.

    bags      the patients of the training part, and nobody else
    fitted    scales and bin edges of the same patients
    seed_key  separates the random choices of models trained with one seed, e.g. ("fold", 3)
    where     the words for messages, e.g. "fold 3"
    """

    bags: Sequence[PatientBag]
    fitted: Fitted
    config: ModelConfig
    params: TrainParams
    seed_key: tuple[int | str, ...]
    where: str


@dataclass(frozen=True)
class Outcome:
    """A trained model and its learning curve: one row an epoch, means over the patients of the epoch."""

    model: TrainedModel
    history: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class Keeper:
    """Where checkpoints go, whose they are, and who may ask to stop."""

    folder: Path
    identity: Mapping[str, Any]
    stop: Callable[[], bool] = lambda: False


def train(task: Task, *, keeper: Keeper | None = None, progress: Progress | None = None) -> Outcome:
    """Train one model for the fixed number of epochs; the last weights (or their average) are the model.

    With a `keeper` the run saves itself now and then and starts from the newest checkpoint found there.

    Raises
        Diverged: the loss became NaN, infinite or ran away; the error names step, patients and last checkpoint.
        DataError: the checkpoint found belongs to other data or settings.
        Paused: `keeper.stop()` said so; the state is saved.
    """
    device = _device(task.params.device)
    with reproducible(task.params.threads):
        run = Run(task, device)
        if keeper is not None:
            run.state.load(checkpoints.latest(keeper.folder, keeper.identity))
        run.ranks.wait()  # none may save before all have read
        saver = _Saver(run.state, keeper, task.params.checkpoint_seconds, run.ranks)
        while run.state.step < run.steps:
            run.advance(saver.last)
            if progress is not None:
                progress(run.state.step, run.steps, f"{task.where}, loss {run.state.last_loss:.3f}, steps")
            saver.after_step(task.where)
        return Outcome(TrainedModel(run.state.kept(), task.config, task.fitted), tuple(run.state.history))


class Run:
    """One optimizer step after the other; `advance` is a function of the state and the data alone."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.params, self.device, self.ranks = task, task.params, device, ranks()
        _seed_everything((task.params.seed, *task.seed_key, "weights"))
        net = build(task.config).to(device)
        self.state = State(net, _optimizer(net, task.params), task.params.ema)
        self.lengths = [_length(bag, task.params.bag_cap) for bag in task.bags]
        self.steps_an_epoch = len(bagging.order(self.lengths, task.params.batch_patients, (0,)))
        self.steps = task.params.epochs * self.steps_an_epoch
        subtypes = torch.tensor([bag.subtype for bag in task.bags])
        self.weights = losses.class_weights(subtypes, len(task.config.classes)).to(device)
        self._order: tuple[int, list[list[int]]] = (-1, [])

    def advance(self, last_checkpoint: str) -> None:
        """One step: forward, loss, backward, update; the sums of the epoch grow, and at its end become a row."""
        epoch, position = divmod(self.state.step, self.steps_an_epoch)
        chosen = [self.task.bags[i] for i in self._epoch_order(epoch)[position]]
        _seed_everything((self.params.seed, *self.task.seed_key, "step", self.state.step, self.ranks.rank))
        self.state.net.train()
        self.state.optimizer.zero_grad(set_to_none=True)
        try:
            parts = self._accumulate(chosen, epoch)
        except DataError as error:  # the couplings refuse costs that are no numbers
            raise self._diverged(error.what, chosen, last_checkpoint) from error
        self._guard(parts["loss"], chosen, last_checkpoint)
        nn.utils.clip_grad_norm_(self.state.net.parameters(), self.params.clip_norm)
        rate = learning_rate(self.state.step, self.steps, self.params)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        self.state.update(parts, len(chosen))
        if position + 1 == self.steps_an_epoch:
            self.state.close_epoch(epoch, rate)

    def _accumulate(self, chosen: list[PatientBag], epoch: int) -> dict[str, float]:
        """Gradients of the mean loss over `chosen`, a few patients in memory at once; the losses as numbers."""
        size = self.params.micro_patients or len(chosen)
        sums = dict.fromkeys(_TERMS, 0.0)
        mine = self.ranks.mine(chosen)
        for start in range(0, len(mine), size):
            batch = bagging.collate(
                mine[start : start + size],
                self.task.fitted,
                self.params.bag_cap,
                (self.params.seed, epoch),
                self.task.config.covariates,
            )
            terms = self._terms(self._hide(batch.to(self.device), epoch))
            total = terms["loss"].sum() / len(chosen)
            total.backward()  # type: ignore[no-untyped-call]
            for name, values in terms.items():
                sums[name] += float(values.detach().sum()) / len(chosen)
        self.ranks.add_gradients(self.state.net.parameters())
        return self.ranks.add(sums)

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch, one term a patient; `loss` is their weighted sum."""
        params = self.params
        flags: dict[str, Tensor] = {}
        if self.task.config.missing:
            flags = {"slides_present": batch.slides_present, "genes_present": batch.genes_present}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=params.precision == "bf16"):
            output = self.state.net(batch.patches, batch.mask, batch.genes, covariates=batch.covariates, **flags)
        survival = self._likelihood(output.hazard_logits, batch)
        if params.survival_loss == "cox":
            survival = survival + losses.cox_terms(output.risk, batch.times, batch.events)
        elif params.survival_loss == "ranking":
            survival = survival + losses.ranking_terms(output.risk, batch.times, batch.events)
        subtype = losses.subtype_terms(output.subtype_logits, batch.subtypes, self.weights)
        instance = losses.subtype_terms(output.instance_logits, batch.subtypes, self.weights) * batch.slides_present
        if self.task.config.hard_negatives:
            instance = instance + losses.hard_negative_terms(
                output.critical_logits, output.critical >= 0, batch.subtypes, self.task.config.hard_negatives
            )
        total = params.lambda_survival * survival + params.lambda_subtype * subtype + params.lambda_instance * instance
        return dict(zip(_TERMS, (total, survival, subtype, instance), strict=True))

    def _likelihood(self, logits: Tensor, batch: Batch) -> Tensor:
        """The censored negative log-likelihood that belongs to the head, (b,)."""
        if self.task.config.head == "continuous":
            return losses.piecewise_nll(logits, batch.times, batch.events, self.task.fitted.edges, self.params.alpha)
        return losses.discrete_nll(logits, batch.bins, batch.events, self.params.alpha)

    def _hide(self, batch: Batch, epoch: int) -> Batch:
        """Modality dropout: of each patient with both, hide slides or genes with the chance set, never both."""
        chance = self.params.modality_dropout
        if not chance:
            return batch
        slides, genes = batch.slides_present.clone(), batch.genes_present.clone()
        for row, patient in enumerate(batch.patient_ids):
            random = bagging.generator(self.params.seed, *self.task.seed_key, "hide", epoch, patient)
            lot = float(torch.rand((), generator=random))
            if lot < chance and bool(slides[row]) and bool(genes[row]):
                (slides if lot < chance / 2 else genes)[row] = False
        return batch.hiding(slides, genes)

    def _guard(self, loss: float, chosen: list[PatientBag], last_checkpoint: str) -> None:
        """Stop at a loss that is no number or ran away, before it reaches the weights or a checkpoint."""
        limit = max(100.0, 20.0 * self.state.first_loss)
        finite = all(bool(p.grad.isfinite().all()) for p in self.state.net.parameters() if p.grad is not None)
        if math.isfinite(loss) and loss <= limit and finite:
            return
        what = f"the loss is {loss:.4g}" if not math.isfinite(loss) or loss > limit else "a gradient is not finite"
        raise self._diverged(what, chosen, last_checkpoint)

    def _diverged(self, what: str, chosen: list[PatientBag], last_checkpoint: str) -> Diverged:
        names = ", ".join(bag.patient_id for bag in chosen[:16]) + (", …" if len(chosen) > 16 else "")
        where = f"{self.task.where}, step {self.state.step}, patients {names}; last good checkpoint: {last_checkpoint}"
        return Diverged(what, where, "lower train.learning_rate, or look at these patients' genes and features")

    def _epoch_order(self, epoch: int) -> list[list[int]]:
        if self._order[0] != epoch:
            key = (self.params.seed, *self.task.seed_key, epoch)
            self._order = epoch, bagging.order(self.lengths, self.params.batch_patients, key)
        return self._order[1]


class _Saver:
    """Decides when the state is written."""

    def __init__(self, state: State, keeper: Keeper | None, seconds: float, place: Ranks) -> None:
        self.state, self.keeper, self.seconds, self.ranks = state, keeper, seconds, place
        self.last = "none yet"
        self.at = time.monotonic()

    def after_step(self, where: str) -> None:
        """Save when it is time; save and raise Paused when asked to stop."""
        if self.keeper is None:
            return
        asked = self.ranks.any(self.keeper.stop())
        due = asked or time.monotonic() - self.at >= self.seconds
        if due and self.ranks.first:
            saved = checkpoints.save(self.keeper.folder, self.state.checkpoint(self.keeper.identity))
            self.last, self.at = saved.name, time.monotonic()
        if asked:
            raise Paused(f"paused after step {self.state.step}", where, "run the same command again to go on from here")


def learning_rate(step: int, steps: int, params: TrainParams) -> float:
    """Linear warm-up over `warmup_share` of the steps, then a half cosine to zero; step counts from 0."""
    warm = max(1, round(params.warmup_share * steps))
    if step < warm:
        return params.learning_rate * (step + 1) / warm
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fixed threads, deterministic kernels and a private random state inside; everything as before afterwards."""
    # cuBLAS reads this when its first handle is made; without it no matrix product there is deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    # The same switch as use_deterministic_algorithms(True), which would import the compiler for three seconds.
    torch.set_deterministic_debug_mode("error")
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])


def _seed_everything(key: tuple[int | str, ...]) -> None:
    """Weights and dropout draw from torch's own generator; numpy and random are never used in training."""
    torch.manual_seed(bagging.generator(*key).initial_seed())


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _length(bag: PatientBag, cap: int) -> int:
    return 1 if bag.patches is None else min(len(bag.patches), cap)


def _optimizer(net: nn.Module, params: TrainParams) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only: shrinking a bias or a norm's scale has no use."""
    matrices = [p for p in net.parameters() if p.ndim >= 2]
    rest = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": params.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=params.learning_rate)
