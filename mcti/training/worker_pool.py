"""Jobs on the cores at hand: in this process or in spawned ones, with the same results either way.

A job is a picklable value, its function a module's own. Workers report progress, stop at a step when asked, and die
with their parent: a killed run leaves nobody behind who writes into the folder of the next one.
"""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from mcti import logs, redaction
from mcti.errors import MctiError, OperationalError, format_own_warnings
from mcti.progress import Progress
from mcti.training.loop import Paused

J = TypeVar("J")
R = TypeVar("R")
_REPORT_SECONDS = 0.2


class Channel(Protocol):
    """What a job sees of the one who runs it."""

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        """Report that `done` of `total` items of this job are finished; see Progress."""

    def stop(self) -> bool:
        """Whether the job should save itself and raise Paused."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass
class _Tally:
    """Adds the jobs' progress up for one bar; a job that did not begin yet is taken for as long as the longest."""

    progress: Progress | None
    jobs: int
    done: dict[int, float] = field(default_factory=dict)
    totals: dict[int, float] = field(default_factory=dict)
    restored: dict[int, float] = field(default_factory=dict)

    def __call__(self, job: int, done: float, total: float, unit: str, detail: str = "", restored: float = 0) -> None:
        self.done[job], self.totals[job], self.restored[job] = done, total, restored
        if self.progress is not None:
            whole = max(self.totals.values()) * (self.jobs - len(self.totals)) + sum(self.totals.values())
            self.progress(sum(self.done.values()), whole, unit, detail, sum(self.restored.values()))

    def finish(self, job: int) -> None:
        """The job has ended; one that never reported found its result there, and is no work that is left."""
        if job not in self.totals:
            self.done[job] = self.totals[job] = self.restored[job] = 0


@dataclass
class _Here:
    """The channel of a job in this process."""

    tally: _Tally
    job: int
    asked: Callable[[], bool]

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        self.tally(self.job, done, total, unit, detail, restored)

    def stop(self) -> bool:
        return self.asked()


class _Remote:
    """The channel of a job in a worker: a queue to the parent, an event from it."""

    inbox: Any = None
    event: Any = None

    def __init__(self, job: int) -> None:
        self.job, self.at = job, 0.0

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        now = time.monotonic()
        if done >= total or now - self.at >= _REPORT_SECONDS:
            self.at = now
            _Remote.inbox.put((self.job, done, total, unit, detail, restored))

    def stop(self) -> bool:
        return bool(_Remote.event.is_set())


class Pool(Generic[J, R]):
    """Runs `function(job, channel)` for each job; a context manager that keeps its workers between calls of `map`.

    workers: processes at a time, 0: one a core. With one worker, or one job at most (`jobs_at_most`), all runs here.
    SIGTERM asks the jobs to save and stop; the call then raises Paused.
    """

    def __init__(self, function: Callable[[J, Channel], R], workers: int, jobs_at_most: int) -> None:
        self.function, self.workers = function, min(workers or cores(), jobs_at_most)
        self.executor: futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        self.former = _on_sigterm(self._ask)
        context = multiprocessing.get_context("spawn")
        self.event = context.Event()
        if self.workers > 1:
            self.inbox = context.Queue()
            self.executor = futures.ProcessPoolExecutor(
                self.workers, context, initializer=_begin, initargs=(self.inbox, self.event, logs.state())
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.executor is not None:
            if kind is KeyboardInterrupt:
                self.event.set()  # or the workers would train on until their fold is finished
            self.executor.shutdown(wait=True, cancel_futures=True)
            self.inbox.close()
        if self.former is not None:
            signal.signal(signal.SIGTERM, self.former)

    def map(self, jobs: Sequence[J], progress: Progress | None = None) -> list[R]:
        """The results in the order of the jobs.

        Raises what the first failing job raised; the others have stopped by then. OperationalError when a worker
        died.
        """
        tally = _Tally(progress, len(jobs))
        if self.executor is None:
            return [self._here(job, number, tally) for number, job in enumerate(jobs)]
        submitted = [self.executor.submit(_work, self.function, job, number) for number, job in enumerate(jobs)]
        try:
            self._wait(submitted, tally)
            return [future.result() for future in submitted]
        except BrokenProcessPool as error:
            hint = "run the same command again to go on; with too little memory set train.workers to 1"
            raise OperationalError("a training process died", "the pool of workers", hint) from error

    def _here(self, job: J, number: int, tally: _Tally) -> R:
        result = self.function(job, _Here(tally, number, self.event.is_set))
        tally.finish(number)
        return result

    def _wait(self, submitted: Sequence["futures.Future[R]"], tally: _Tally) -> None:
        open_ones = set(submitted)
        while open_ones:
            finished, open_ones = futures.wait(open_ones, timeout=_REPORT_SECONDS)
            for report in _waiting(self.inbox):
                tally(*report)
            for future in finished:
                tally.finish(submitted.index(future))
            failures = [e for f in finished if (e := f.exception()) is not None and not isinstance(e, Paused)]
            if failures:
                self.event.set()
                futures.wait([future for future in open_ones if not future.cancel()])
                raise failures[0]

    def _ask(self, *_: object) -> None:
        self.event.set()


def _waiting(inbox: Any) -> Iterator[tuple[int, float, float, str, str, float]]:
    """The reports that lie in the queue now."""
    while True:
        try:
            yield inbox.get_nowait()
        except queue.Empty:
            return


def _on_sigterm(handler: Callable[..., None]) -> Any:
    """Install a handler; the former one, or None where signals cannot be set (not the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        return None
    former = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, handler)
    return former


def _begin(inbox: Any, event: Any, log: Any) -> None:
    """A worker's first act: remember the channel, warn and log as the parent does, leave signals to it, and end with
    it."""
    _Remote.inbox, _Remote.event = inbox, event
    format_own_warnings()
    logs.join(log)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(function: Callable[[J, Channel], R], job: J, number: int) -> R:
    try:
        return function(job, _Remote(number))
    except MctiError as error:  # told here: the parent did not read the tables, so it does not know whom to hide
        raise type(error)(*map(redaction.text, (error.what, error.where, error.hint))) from error
