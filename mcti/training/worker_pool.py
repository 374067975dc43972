"""Jobs on the available cores, with the same results in this process and in spawned processes.

A job is a picklable value, and its function is defined at module level. Workers report progress, stop at a step on
request, and end with their parent, so that no process of a killed run writes into the folder of the next run.
"""

import itertools
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
_AHEAD = 4  # jobs per worker that are submitted or wait for an earlier result: the results in memory are bounded


class Channel(Protocol):
    """The connection of a job to the process that runs it."""

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        """Report that `done` of `total` items (unit: `unit`) of this job are finished; see Progress."""

    def stop(self) -> bool:
        """Whether the job should save its state and raise Paused."""


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass
class _TotalProgress:
    """Sums the progress of the jobs for one bar; a job that has not started counts as long as the longest one.

    reports  (done, total, restored) of each job;  sums  of all jobs, kept because a prediction has thousands of jobs
    """

    progress: Progress | None
    jobs: int
    reports: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    sums: tuple[float, float, float] = (0, 0, 0)
    longest: float = 0

    def __call__(self, job: int, done: float, total: float, unit: str, detail: str = "", restored: float = 0) -> None:
        before, now = self.reports.get(job, (0, 0, 0)), (done, total, restored)
        self.reports[job] = now
        self.sums = tuple(s + new - old for s, new, old in zip(self.sums, now, before, strict=True))  # type: ignore[assignment]
        self.longest = max(self.longest, total)
        if self.progress is not None:
            whole = self.longest * (self.jobs - len(self.reports)) + self.sums[1]
            self.progress(self.sums[0], whole, unit, detail, self.sums[2])

    def finish(self, job: int) -> None:
        """The job has ended; a job without any report had a stored result and is not counted as work."""
        self.reports.setdefault(job, (0, 0, 0))


@dataclass
class _LocalChannel:
    """The channel of a job in this process."""

    total_progress: _TotalProgress
    job: int
    stop_requested: Callable[[], bool]

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        self.total_progress(self.job, done, total, unit, detail, restored)

    def stop(self) -> bool:
        return self.stop_requested()


class _WorkerChannel:
    """The channel of a job in a worker process: a queue to the parent, an event from it."""

    inbox: Any = None
    event: Any = None

    def __init__(self, job: int) -> None:
        self.job, self.reported_at = job, 0.0

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        now = time.monotonic()
        if done >= total or now - self.reported_at >= _REPORT_SECONDS:
            self.reported_at = now
            _WorkerChannel.inbox.put((self.job, done, total, unit, detail, restored))

    def stop(self) -> bool:
        return bool(_WorkerChannel.event.is_set())


class Pool(Generic[J, R]):
    """Runs `function(job, channel)` for each job; a context manager that keeps its workers between calls of `map`.

    workers     processes at a time; 0: one per core. With one worker, or one job at most (`jobs_at_most`), all jobs run
                in this process
    takes_jobs  whether this process is one of the workers. It works while the others import their libraries, which
                takes seconds. For jobs of seconds, since during a job it reports no progress of the others
    SIGTERM requests that the jobs save their state and stop; `map` then raises Paused.
    """

    def __init__(
        self, function: Callable[[J, Channel], R], workers: int, jobs_at_most: int, *, takes_jobs: bool = False
    ) -> None:
        self.function, self.workers, self.takes_jobs = function, min(workers or cores(), jobs_at_most), takes_jobs
        self.executor: futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        self.former_handler = _on_sigterm(lambda *_: self.event.set())
        context = multiprocessing.get_context("spawn")
        self.event = context.Event()
        if self.workers > 1:
            self.inbox = context.Queue()
            arguments = (self.inbox, self.event, logs.state())
            self.executor = futures.ProcessPoolExecutor(
                self.workers - self.takes_jobs, context, initializer=_initialise_worker, initargs=arguments
            )
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.executor is not None:
            if error_type is KeyboardInterrupt:
                self.event.set()  # otherwise the workers would train until their fold is finished
            self.executor.shutdown(wait=True, cancel_futures=True)
            self.inbox.close()
        if self.former_handler is not None:
            signal.signal(signal.SIGTERM, self.former_handler)

    def map(self, jobs: Sequence[J], progress: Progress | None = None) -> list[R]:
        """The results in the order of the jobs; raises as `stream`."""
        return list(self.stream(jobs, progress))

    def stream(self, jobs: Sequence[J], progress: Progress | None = None) -> Iterator[R]:
        """The results in the order of the jobs, each as soon as those before it were taken; few are in memory.

        Raises the error of the first failed job; the other jobs have stopped by then
        Raises OperationalError when a worker process died
        """
        total_progress = _TotalProgress(progress, len(jobs))
        if self.executor is None:
            for number, job in enumerate(jobs):
                yield self._run_locally(job, number, total_progress)
            return
        waiting: dict[futures.Future[R], int] = {}  # in the order of the jobs
        unsubmitted = enumerate(jobs)
        try:
            while True:
                for number, job in itertools.islice(unsubmitted, self.workers * _AHEAD - len(waiting)):
                    waiting[self.executor.submit(_work, self.function, job, number)] = number
                if not waiting:
                    return
                first = self._wait(jobs, waiting, total_progress)
                del waiting[first]
                yield first.result()
        except BrokenProcessPool as error:
            hint = "run the same command again to resume; with too little memory set train.workers to 1"
            raise OperationalError("a training process died", "the pool of workers", hint) from error

    def _run_locally(self, job: J, number: int, total_progress: _TotalProgress) -> R:
        result = self.function(job, _LocalChannel(total_progress, number, self.event.is_set))
        total_progress.finish(number)
        return result

    def _wait(
        self, jobs: Sequence[J], waiting: "dict[futures.Future[R], int]", total_progress: _TotalProgress
    ) -> "futures.Future[R]":
        """Wait for the first of the submitted jobs, and return it; an error of any of them stops all."""
        while True:
            first = next(iter(waiting))
            if not first.done() and not (self.takes_jobs and self._run_one(jobs, waiting, total_progress)):
                futures.wait([first], timeout=_REPORT_SECONDS)
            for report in _pending(self.inbox):
                total_progress(*report)
            finished = [future for future in waiting if future.done()]
            for future in finished:
                total_progress.finish(waiting[future])
            failures = [e for f in finished if (e := f.exception()) is not None and not isinstance(e, Paused)]
            if failures:
                self.event.set()
                futures.wait([future for future in waiting if not future.cancel()])
                raise failures[0]
            if first in finished:
                return first

    def _run_one(
        self, jobs: Sequence[J], waiting: "dict[futures.Future[R], int]", total_progress: _TotalProgress
    ) -> bool:
        """Run, in this process, the first submitted job that no worker has begun; False where there is none."""
        pending = next((future for future in waiting if future.cancel()), None)
        if pending is None:
            return False
        local: futures.Future[R] = futures.Future()
        try:
            local.set_result(self._run_locally(jobs[waiting[pending]], waiting[pending], total_progress))
        except Exception as error:  # raised by `_wait`, as that of a worker
            local.set_exception(error)
        entries = [(local if future is pending else future, number) for future, number in waiting.items()]
        waiting.clear()
        waiting.update(entries)
        return True


def _pending(inbox: Any) -> Iterator[tuple[int, float, float, str, str, float]]:
    """The reports that the queue contains now."""
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


def _initialise_worker(inbox: Any, event: Any, log: Any) -> None:
    """Initialise a worker: channel, warnings and log as in the parent, signals ignored, end with the parent."""
    _WorkerChannel.inbox, _WorkerChannel.event = inbox, event
    format_own_warnings()
    logs.join(log)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(function: Callable[[J, Channel], R], job: J, number: int) -> R:
    try:
        return function(job, _WorkerChannel(number))
    except MctiError as error:  # redacted here: the parent has not read the tables, so it has no ids to redact
        raise type(error)(*map(redaction.text, (error.what, error.where, error.hint))) from error
