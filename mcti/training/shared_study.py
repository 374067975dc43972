"""A study in PostgreSQL for several concurrent processes: each trial runs once, a lost trial is retried once.

In search.py the trials run in rounds and do not depend on the number of workers. Here each worker takes the next trial
when it is free, so the tried settings, and nothing else, depend on the order in which the workers finish. When
PostgreSQL is unavailable, each operation is repeated, with growing pauses, until the server answers.

Why not `Study.optimize` with Optuna's own heartbeat thread: docs/decisions/0004-shared-study.md.
"""

import contextlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mcti.errors import OperationalError
from mcti.training import search
from mcti.training.search import Plan, Trial
from mcti.waiting import call_periodically, log_while_waiting

T = TypeVar("T")
HEARTBEAT_SECONDS = 30
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two tries to reach the server
_POLL = 1.0  # seconds between two queries for trials that other workers are running
_LOCK_TIMEOUT = "60s"  # a stalled worker holds its lock: after this time it is an error
_TABLES_LOCK = 7151  # key of the lock under which Optuna creates its tables
_CONNECTION = {
    "connect_timeout": 10,
    # A network that drops packets reports no error: without these options a query waits for two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
_DIVERGED = "diverged"
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|FATAL: +(role|database) .* does not exist"
)


class StorageUnavailable(UserWarning):
    """PostgreSQL does not answer; the worker waits."""


class TrialReassigned(UserWarning):
    """The trial of a slow worker was reassigned to another one."""


class SharedStudy:
    """One worker's view of a study.

    url               postgresql://…; the password may come from PGPASSWORD or ~/.pgpass
    heartbeat_seconds interval of the heartbeats of a running trial; without any for twice as long, the trial is lost
    wait_minutes      longest wait for an unreachable server
    """

    def __init__(
        self, plan: Plan, url: str, name: str, *, wait_minutes: float, heartbeat_seconds: int = HEARTBEAT_SECONDS
    ) -> None:
        import optuna

        self.plan, self.name, self.url, self.optuna = plan, name, url, optuna
        self.heartbeat_seconds, self.wait_minutes = heartbeat_seconds, wait_minutes
        self.storage: Any = self.retried(self._connect)
        self.study: Any = self.retried(self._open)
        self.study_id = self.retried(lambda: int(self.storage.get_study_id_from_name(name)))

    def work(
        self, score: Callable[[Trial, int], float], on_end: Callable[[Trial], None], stop: Callable[[], bool]
    ) -> None:
        """Run trials until the study has all of them; return when the trials of the other workers have ended, too.

        score   C-index of a trial at an inner fold, between 0 and 1; NaN where training diverged
        on_end  called with each trial that ends in this worker
        stop    called between two folds; true returns the trial to the study and ends the worker

        Raises OperationalError when PostgreSQL does not answer for `wait_minutes` or refuses the connection.
        """
        started = time.monotonic()
        while not stop():
            number = self._next(started, stop)
            if number is None:
                return
            with self._heartbeat(number):
                ended = self._run_unless_reassigned(number, score, stop)
            if ended is not None:
                on_end(ended)

    def _next(self, started: float, stop: Callable[[], bool]) -> int | None:
        """The number of this worker's next trial; None when all have ended. Waits for the trials of other workers."""
        lost = f"a worker without a heartbeat for {2 * self.heartbeat_seconds} s loses its trial"
        with log_while_waiting(f"trials of other workers in study {self.name}", lost):
            while not stop():
                late = bool(self.plan.timeout_minutes) and time.monotonic() - started >= self.plan.timeout_minutes * 60
                number = self.retried(lambda: self._claim(may_start=not late))  # noqa: B023
                if number is not None or not self.retried(self._has_open_trials):
                    return number
                time.sleep(_POLL)
        return None

    def trials(self) -> list[Trial]:
        """All trials by number, without the lost ones that were run again under another number."""
        return self.retried(lambda: [t for t in search.read_trials(self.study) if not self._was_repeated(t)])

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Exclude the other workers of this study; the lock ends with the connection, and so with the worker."""
        from sqlalchemy import func, select

        key = int.from_bytes(self.name.encode()[-7:], "big")
        with self.storage.engine.connect() as connection:
            _lock(connection, key)
            try:
                yield
            finally:
                with contextlib.suppress(Exception):  # the end of the connection releases the lock as well
                    connection.execute(select(func.pg_advisory_unlock(key)))

    def retried(self, call: Callable[[], T]) -> T:
        """The result of `call`, repeated with growing pauses while the server is unavailable.

        Raises OperationalError after `wait_minutes`, and at once when the server refuses the user or the database.
        """
        with log_while_waiting(f"PostgreSQL at {without_password(self.url)}", self.wait_minutes * 60):
            return self._until_answered(call)

    def _until_answered(self, call: Callable[[], T]) -> T:
        from sqlalchemy.exc import DBAPIError

        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                return call()
            except (DBAPIError, self.optuna.exceptions.StorageInternalError) as error:
                cause = error if isinstance(error, DBAPIError) else error.__cause__
                if not isinstance(cause, DBAPIError) or not _is_unavailable(cause):
                    raise
                if _REFUSED.search(str(cause)):  # a retry has no prospect
                    raise self._refused(cause) from error
                if time.monotonic() - began > self.wait_minutes * 60:
                    raise self._unreachable(cause) from error
            message = f"{without_password(self.url)} does not answer: retrying in {pause:.0f} s, the trial resumes then"
            warnings.warn(message, StorageUnavailable, stacklevel=2)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _unreachable(self, cause: Exception) -> OperationalError:
        what = f"PostgreSQL does not answer ({str(cause).splitlines()[0]})"
        hint = "start it, or check search.storage, and run the same command again: the study resumes"
        return OperationalError(what, without_password(self.url), hint)

    def _refused(self, cause: Exception) -> OperationalError:
        reason = str(cause).splitlines()[0].rpartition("FATAL:")[2].strip()
        hint = "check user and database of search.storage, and the password in PGPASSWORD or ~/.pgpass"
        return OperationalError(f"PostgreSQL refuses the connection ({reason})", without_password(self.url), hint)

    def _connect(self) -> Any:
        """Optuna's storage; one worker at a time creates its tables, since two at once would collide."""
        from sqlalchemy import create_engine

        storages, address = self.optuna.storages, driver_url(self.url)
        engine = {"pool_pre_ping": True, "connect_args": _CONNECTION}
        lock = create_engine(address, **engine)
        try:
            with lock.connect() as connection:
                _lock(connection, _TABLES_LOCK)
                return storages.RDBStorage(
                    address,
                    engine_kwargs=engine,
                    heartbeat_interval=self.heartbeat_seconds,
                    grace_period=2 * self.heartbeat_seconds,
                    heartbeat_stale_trial_callback=storages.RetryHeartbeatStaleTrialCallback(
                        max_retry=1, inherit_intermediate_values=True
                    ),
                )
        finally:
            lock.dispose()

    def _open(self) -> Any:
        with self.exclusive():
            study = self.optuna.create_study(
                storage=self.storage,
                study_name=self.name,
                direction="maximize",
                pruner=self.optuna.pruners.WilcoxonPruner(p_threshold=self.plan.wilcoxon_p_threshold),
                load_if_exists=True,
            )
            if not study.get_trials(deepcopy=False):
                search.enqueue_starts(study, self.plan)
            return study

    def _claim(self, *, may_start: bool) -> int | None:
        """The number of a trial claimed for this worker: a waiting one first, a new one while there are too few."""
        states = self.optuna.trial.TrialState
        self._start_missing_heartbeats()
        self.optuna.storages.fail_stale_trials(self.study)
        with self.exclusive():
            trials = self.study.get_trials(deepcopy=False)
            waiting = any(trial.state == states.WAITING for trial in trials)
            started = [trial for trial in trials if trial.state != states.WAITING and not self._was_repeated(trial)]
            if not waiting and (len(started) >= self.plan.trials or not may_start):
                return None
            self.study.sampler = search.sampler(self.plan, len(trials))
            trial = self.study.ask()
            self.storage.record_heartbeat(self._trial_id(trial.number))
            search.draw(trial, self.plan.space)
            return int(trial.number)

    def _run_unless_reassigned(
        self, number: int, score: Callable[[Trial, int], float], stop: Callable[[], bool]
    ) -> Trial | None:
        """As `_run`; None for a trial that was reassigned: this worker recorded no heartbeat for too long."""
        try:
            return self._run(number, score, stop)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            event = f"trial {number} was reassigned to another worker: this one missed two heartbeats"
            warnings.warn(f"{event}; run fewer workers on this machine", TrialReassigned, stacklevel=2)
            return None

    def _run(self, number: int, score: Callable[[Trial, int], float], stop: Callable[[], bool]) -> Trial | None:
        """Score the inner folds that are still missing; None when a stop is requested before the last."""
        states, trial = self.optuna.trial.TrialState, self.retried(lambda: self._read(number))
        for inner in range(self.plan.folds):
            if inner not in trial.scores:
                if stop():
                    self.retried(lambda: self._return_to_study(number))
                    return None
                value = score(trial, inner)
                if value != value:
                    self.retried(lambda: self._live(number).set_user_attr(_DIVERGED, True))
                    return self._end(number, states.FAIL, None)
                trial.scores[inner] = value
                self.retried(lambda: self._live(number).report(value, inner))  # noqa: B023
            if len(trial.scores) < self.plan.folds and self.retried(lambda: self._live(number).should_prune()):
                return self._end(number, states.PRUNED, None)
        return self._end(number, states.COMPLETE, trial.mean)

    def _end(self, number: int, state: Any, value: float | None) -> Trial:
        def finish() -> None:
            if self._frozen(number).state == self.optuna.trial.TrialState.RUNNING:  # otherwise an earlier try succeeded
                self.study.tell(number, value, state=state)

        self.retried(finish)
        return self.retried(lambda: self._read(number))

    def _return_to_study(self, number: int) -> None:
        """End the trial in this worker and enqueue it again with its scores, for any worker."""
        frozen = self._frozen(number)
        if frozen.state == self.optuna.trial.TrialState.RUNNING:
            history = [*frozen.system_attrs.get("handed_back", []), number]
            waiting = self.optuna.trial.create_trial(
                state=self.optuna.trial.TrialState.WAITING,
                params=frozen.params,
                distributions=frozen.distributions,
                system_attrs={**frozen.system_attrs, "handed_back": history},
                intermediate_values=frozen.intermediate_values,
            )
            self.study.add_trial(waiting)
            self.study.tell(number, state=self.optuna.trial.TrialState.FAIL)

    def _was_repeated(self, trial: Any) -> bool:
        """Whether a failed trial is in the study a second time, under another number."""
        numbers = set()
        for other in self.study.get_trials(deepcopy=False):
            numbers |= {*other.system_attrs.get("retry_history", []), *other.system_attrs.get("handed_back", [])}
        return trial.number in numbers

    def _has_open_trials(self) -> bool:
        """Whether a trial is running or waiting."""
        states = self.optuna.trial.TrialState
        return any(t.state in (states.RUNNING, states.WAITING) for t in self.study.get_trials(deepcopy=False))

    def _start_missing_heartbeats(self) -> None:
        """Record a first heartbeat of each running trial that has none.

        Its worker ended, or lost the server, between the claim and the first heartbeat. Optuna reassigns a trial only
        after a heartbeat that is too old, and has no public query for trials without any.
        """
        from sqlalchemy import column, select, table

        running = [
            self._trial_id(trial.number)
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state == self.optuna.trial.TrialState.RUNNING
        ]
        query: Any = select(column("trial_id")).select_from(table("trial_heartbeats"))
        with self.storage.engine.connect() as connection:
            recorded = {row[0] for row in connection.execute(query)}
        for trial_id in running:
            if trial_id not in recorded:
                self.storage.record_heartbeat(trial_id)

    @contextlib.contextmanager
    def _heartbeat(self, number: int) -> Iterator[None]:
        """Record heartbeats of the trial in a thread while the body runs; while the server is unavailable, keep trying.

        Optuna's own thread ends at the first failed heartbeat, and another worker would then receive the trial.
        """
        trial_id = self.retried(lambda: self._trial_id(number))

        def record() -> None:
            with contextlib.suppress(Exception):  # the worker itself waits for the server and reports it
                self.storage.record_heartbeat(trial_id)

        with call_periodically(record, self.heartbeat_seconds / 2):
            yield

    def _read(self, number: int) -> Trial:
        return next(trial for trial in search.read_trials(self.study) if trial.number == number)

    def _frozen(self, number: int) -> Any:
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)

    def _live(self, number: int) -> Any:
        return self.optuna.trial.Trial(self.study, self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return int(self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number))


def is_shared(url: str | None) -> bool:
    """Whether a storage address is PostgreSQL's."""
    return bool(url) and str(url).startswith(("postgresql://", "postgresql+", "postgres://"))


def driver_url(url: str) -> str:
    """The address with the driver that is installed (psycopg 3)."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", url)


def without_password(url: str) -> str:
    """The address as a message may show it."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:…@", url)


def _lock(connection: Any, key: int) -> None:
    """Take an advisory lock of the connection; an error after _LOCK_TIMEOUT."""
    from sqlalchemy import func, select

    connection.execute(select(func.set_config("lock_timeout", _LOCK_TIMEOUT, False)))
    connection.execute(select(func.pg_advisory_lock(key)))


def _is_unavailable(error: Any) -> bool:
    """Whether the server cannot be reached or is shutting down; false where it refused a statement."""
    from sqlalchemy import exc

    return bool(error.connection_invalidated) or isinstance(error, exc.OperationalError | exc.InterfaceError)
