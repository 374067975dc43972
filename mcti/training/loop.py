"""The training loop: plain torch, the same bits on every run, from the start or from a checkpoint.

Every random choice is a function of (seed, step) or (seed, epoch, patient), never of what was drawn before. So the
state of a run is its weights, its moments and a step number, and a run that was killed goes on exactly.
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
from mcti.model.trained import TrainedModel
from mcti.progress import Progress
from mcti.training import checkpoints, fit_cox_branch, profiling
from mcti.training.distributed import Ranks
from mcti.training.run import Run, Task
from mcti.training.state import State

_log = logging.getLogger(__name__)


class Paused(MctiError):
    """A request to stop came (SIGTERM): the state is saved, and the same command goes on from it."""

    exit_code, code = 0, "paused"


@dataclass(frozen=True)
class Outcome:
    """A trained model, its learning curve (one row an epoch, means over the patients of the epoch), and the bag cap it
    was trained with: that of the settings, or less where a GPU was too small."""

    model: TrainedModel
    history: tuple[Mapping[str, float], ...]
    bag_cap: int


@dataclass(frozen=True)
class CheckpointConfig:
    """Where checkpoints go, whose they are, and who may ask to stop."""

    folder: Path
    identity: Mapping[str, Any]
    stop: Callable[[], bool] = lambda: False


def train(
    task: Task, *, keeper: CheckpointConfig | None = None, progress: Progress | None = None, trace: Path | None = None
) -> Outcome:
    """Train one model; the last weights (or their average) are the model, with `patience` those of the best epoch.

    With `cox_weight` a Cox model of the same patients is fitted beside it.

    With a `keeper` the run saves itself now and then and starts from the newest checkpoint found there. `trace`: a
    file for the profile of a few steps.

    Raises
        Diverged: the loss became NaN, infinite or ran away; the error names step, patients and last checkpoint.
        DataError: the checkpoint found belongs to other data or settings.
        OperationalError: the GPU has too little memory, with half the patches of the longest bag, too.
        Paused: `keeper.stop()` said so; the state is saved.
    """
    device = _device(task.params.device)
    with reproducible(task.params.threads), profiling.traced(trace) as after_step:
        run = Run(task, device)
        if keeper is not None:
            _resume(run, keeper, progress)
        restored = run.state.step
        run.ranks.wait()  # none may save before all have read
        saver = _Saver(run.state, keeper, task.params.checkpoint_seconds, run.ranks)
        pace = _Pace()
        while not run.over:
            pace.patients += run.advance(saver.last)
            after_step()
            if progress is not None:
                said = f"{task.where}, loss {run.state.last_loss:.3f}, {pace.rate:.0f} patients/s"
                progress(run.steps if run.over else run.state.step, run.steps, "steps", said, restored)
            saver.after_step(task.where)
        run.check_weights(saver.last)
        model = TrainedModel(run.state.kept(), task.config, task.fitted)
        if task.params.cox_weight:
            model = fit_cox_branch.joined(model, task.bags, task.params.cox_weight, task.params.seed)
        return Outcome(model, tuple(run.state.history), run.state.bag_cap)


def _resume(run: Run, keeper: CheckpointConfig, progress: Progress | None) -> None:
    """Take over the newest checkpoint, if there is one, and log which."""
    found, where = checkpoints.latest(keeper.folder, keeper.identity), run.task.where
    run.state.load(found)
    if found is None:
        _log.info("%s: no checkpoint in %s, starting at step 0 of %d", where, keeper.folder, run.steps)
        return
    epoch, epochs = found.step // run.steps_an_epoch, run.params.epochs
    place = f"step {found.step} of {run.steps} (epoch {epoch} of {epochs})"
    _log.info("%s: resumed from %s, checkpoint %s", where, place, found.path)
    if run.over and progress is not None:  # no step follows that would report
        progress(run.steps, run.steps, "steps", where, run.steps)


class _Pace:
    """Patients trained on since the start, and how many a second."""

    def __init__(self) -> None:
        self.patients, self.started = 0, time.monotonic()

    @property
    def rate(self) -> float:
        """Patients a second."""
        return self.patients / max(time.monotonic() - self.started, 1e-6)


class _Saver:
    """Decides when the state is written."""

    def __init__(self, state: State, keeper: CheckpointConfig | None, seconds: float, place: Ranks) -> None:
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
            _log.debug("%s: checkpoint %s written", where, saved)
        if asked:
            raise Paused(f"paused after step {self.state.step}", where, "run the same command again to go on from here")


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


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
