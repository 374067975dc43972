"""The training loop in plain torch, with the same bits in every run, whether started or resumed from a checkpoint.

Every random choice is a function of (seed, step) or (seed, epoch, patient), never of earlier draws. Therefore the state
of a run consists of weights, moments and the step number, and an interrupted run resumes exactly.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mcti.errors import MctiError
from mcti.model.comparators import Comparator
from mcti.model.network import MCTI
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.progress import Progress
from mcti.training import checkpoints, fit_cox_branch, profiling
from mcti.training.allocator import kept_memory
from mcti.training.distributed import Ranks
from mcti.training.run import Run, Task
from mcti.training.state import State

_log = logging.getLogger(__name__)


class Paused(MctiError):
    """A stop was requested (SIGTERM): the state is saved, and the same command resumes from it."""

    exit_code, code = 0, "paused"


@dataclass(frozen=True)
class Outcome:
    """A trained model, its learning curve and its bag cap.

    history  one row per epoch, means over the patients of the epoch
    bag_cap  patches per patient in training: the setting, or less where the GPU had too little memory
    fine_tuning  how the network uses a pretrained one, as JSON values; None: it does not
    cox_fit  choices of the fit of the Cox branch (`mcti.training.cox_transfer.Score`); None: there is no branch
    """

    model: TrainedModel
    history: tuple[Mapping[str, float], ...]
    bag_cap: int
    fine_tuning: Mapping[str, Any] | None = None
    cox_fit: Mapping[str, float] | None = None


@dataclass(frozen=True)
class CheckpointConfig:
    """The folder of the checkpoints, the identity of the run that they belong to, and `stop`: true requests a stop.

    save_last  also save the state after the last step, for a run whose result is needed again after an interruption
    """

    folder: Path
    identity: Mapping[str, Any]
    stop: Callable[[], bool] = lambda: False
    save_last: bool = False


def train(
    task: Task,
    *,
    checkpointing: CheckpointConfig | None = None,
    progress: Progress | None = None,
    trace: Path | None = None,
) -> Outcome:
    """Train one model; the last weights (or their average) are the model, with `patience` those of the best epoch.

    With `cox_weight` the model is an ensemble with a Cox model of the same patients, sources and prior.

    checkpointing  the run saves its state at intervals and starts from the newest checkpoint in the folder
    trace          file for the profile of a few steps

    Raises Diverged when the loss became NaN, infinite or far too large, naming step, patients and last checkpoint
    Raises DataError when the newest checkpoint belongs to other data or settings
    Raises OperationalError when the GPU has too little memory even for half the patches of the longest bag
    Raises Paused when `checkpointing.stop()` returned true; the state is saved
    """
    with reproducible(task.params.threads), kept_memory(), profiling.traced(trace) as after_step:
        run = Run(task, device_of(task.params))
        finish(run, checkpointing, progress, after_step)
        net = run.state.kept()
        assert isinstance(net, MCTI | Comparator)
        model = TrainedModel(net, task.config, task.fitted)
        choice = None
        if task.params.cox_weight:
            model, choice = fit_cox_branch.with_cox_branch(model, task)
        return Outcome(model, tuple(run.state.history), run.state.bag_cap, cox_fit=choice)


def finish(
    run: Run,
    checkpointing: CheckpointConfig | None = None,
    progress: Progress | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """All steps of a run, or those after its newest checkpoint; arguments and errors as in `train`."""
    where = run.task.where
    if checkpointing is not None:
        _resume(run, checkpointing, progress)
    restored = run.state.step
    run.ranks.wait()  # no process may save before all have loaded
    saver = _Saver(run.state, checkpointing, run.params.checkpoint_seconds, run.ranks)
    pace = _Pace()
    while not run.over:
        pace.patients += run.advance(saver.last)
        after_step()
        if progress is not None:
            detail = f"{where}, loss {run.state.last_loss:.3f}, {pace.rate:.0f} patients/s"
            progress(run.steps if run.over else run.state.step, run.steps, "steps", detail, restored)
        saver.after_step(where)
    run.check_weights(saver.last)
    if checkpointing is not None and checkpointing.save_last and run.state.step > restored:
        saver.save(checkpointing, where)


def _resume(run: Run, checkpointing: CheckpointConfig, progress: Progress | None) -> None:
    """Restore the newest checkpoint, if there is one, and log which."""
    checkpoint, where = checkpoints.latest(checkpointing.folder, checkpointing.identity), run.task.where
    run.state.load(checkpoint)
    if checkpoint is None:
        _log.info("%s: no checkpoint in %s, starting at step 0 of %d", where, checkpointing.folder, run.steps)
        return
    epoch, epochs = checkpoint.step // run.steps_per_epoch, run.params.epochs
    position = f"step {checkpoint.step} of {run.steps} (epoch {epoch} of {epochs})"
    _log.info("%s: resumed from %s, checkpoint %s", where, position, checkpoint.path)
    if run.over and progress is not None:  # no further step reports progress
        progress(run.steps, run.steps, "steps", where, run.steps)


class _Pace:
    """Number of patients processed since the start, and the rate."""

    def __init__(self) -> None:
        self.patients, self.started = 0, time.monotonic()

    @property
    def rate(self) -> float:
        """Patients per second."""
        return self.patients / max(time.monotonic() - self.started, 1e-6)


class _Saver:
    """Writes the state when a checkpoint is due or a stop is requested."""

    def __init__(self, state: State, checkpointing: CheckpointConfig | None, seconds: float, ranks: Ranks) -> None:
        self.state, self.checkpointing, self.seconds, self.ranks = state, checkpointing, seconds, ranks
        self.last = "none yet"
        self.saved_at = time.monotonic()

    def after_step(self, where: str) -> None:
        """Save when a checkpoint is due; save and raise Paused when a stop is requested."""
        if self.checkpointing is None:
            return
        stop = self.ranks.any(self.checkpointing.stop())
        if stop or time.monotonic() - self.saved_at >= self.seconds:
            self.save(self.checkpointing, where)
        if stop:
            raise Paused(f"paused after step {self.state.step}", where, "run the same command again to resume")

    def save(self, checkpointing: CheckpointConfig, where: str) -> None:
        """Save the state, once among the processes."""
        if self.ranks.first:
            saved = checkpoints.save(checkpointing.folder, self.state.checkpoint(checkpointing.identity))
            self.last, self.saved_at = saved.name, time.monotonic()
            _log.debug("%s: checkpoint %s written", where, saved)


_settings: Any = torch.utils.deterministic  # a module with a property, which a type checker does not see


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Run the body with fixed threads, deterministic kernels and its own random state; restore the previous state."""
    # cuBLAS reads this when its first handle is created; without it, matrix products on a GPU are not deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), _settings.fill_uninitialized_memory
    torch.set_num_threads(threads)
    # Equivalent to use_deterministic_algorithms(True), which would import the compiler and take three seconds.
    torch.set_deterministic_debug_mode("error")
    # torch would write NaN to each new tensor before an operation fills it: a twentieth of a step.
    _settings.fill_uninitialized_memory = False
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        _settings.fill_uninitialized_memory = before[2]


def device_of(params: TrainParams) -> torch.device:
    """The device of the settings; `auto`: a GPU if present, otherwise the CPU."""
    name = params.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
