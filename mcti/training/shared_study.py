"""A study in PostgreSQL that several processes work on at once: each trial once, a lost one once more.

Beside search.py, whose trials come in rounds and are the same whatever happens, here every worker takes the next trial
when it is free. Which settings are tried then depends on who finishes first; nothing else does. PostgreSQL may go away
and come back: every word with it is said again, with growing pauses, until it is answered.
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
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two tries to reach the server
_POLL = 1.0  # seconds between two looks at trials that others are running
_LOCK_LIMIT = "SET lock_timeout = '60s'"  # a worker that stands still keeps its lock: that is an error, not a long wait
_CONNECTION = {
    "connect_timeout": 10,
    # A network that drops packets says nothing: without these an answer is waited for for two hours.
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
    """A slow worker's trial was taken for lost."""


class SharedStudy:
    """One worker's view of a study.

    url               postgresql://…; the password may come from PGPASSWORD or ~/.pgpass
    heartbeat_seconds a running trial tells that often that it lives; silent for twice as long, it is lost
    wait_minutes      how long an unreachable server is waited for
    """

    def __init__(self, plan: Plan, url: str, name: str, *, heartbeat_seconds: int, wait_minutes: float) -> None:
        import optuna

        self.plan, self.name, self.url, self.optuna = plan, name, url, optuna
        self.heartbeat_seconds, self.wait_minutes = heartbeat_seconds, wait_minutes
        self.storage: Any = self.patiently(self._connect)
        self.study: Any = self.patiently(self._open)

    def work(
        self, score: Callable[[Trial, int], float], told: Callable[[Trial], None], stop: Callable[[], bool]
    ) -> None:
        """Take trials until the study has all it wants; return when those of the others have ended, too.

        score  of a trial at an inner fold, NaN where training diverged;  told: called with each trial that ended here
        stop   asked between two folds; true hands the trial back and returns
        """
        started = time.monotonic()
        while not stop():
            number = self._next(started, stop)
            if number is None:
                return
            with self._alive(number):
                ended = self._kept(number, score, stop)
            if ended is not None:
                told(ended)

    def _next(self, started: float, stop: Callable[[], bool]) -> int | None:
        """The number of this worker's next trial; None when all have ended. Waits for the trials of the others."""
        lost = f"a worker that is silent for {2 * self.heartbeat_seconds} s loses its trial"
        with log_while_waiting(f"trials of other workers in study {self.name}", lost):
            while not stop():
                late = bool(self.plan.timeout_minutes) and time.monotonic() - started >= self.plan.timeout_minutes * 60
                number = self.patiently(lambda: self._claim(may_ask=not late))  # noqa: B023
                if number is not None or not self.patiently(self._others):
                    return number
                time.sleep(_POLL)
        return None

    def trials(self) -> list[Trial]:
        """All trials by number; those that were lost and tried again are left out."""
        return self.patiently(lambda: [t for t in search.read_trials(self.study) if not self._again(t)])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other worker of this study is: a lock that goes with the connection, so a kill frees it."""
        from sqlalchemy import text

        key = int.from_bytes(self.name.encode()[-7:], "big")
        with self.storage.engine.connect() as connection:
            connection.execute(text(_LOCK_LIMIT))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
            try:
                yield
            finally:
                with contextlib.suppress(Exception):  # with the connection the lock is gone as well
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})

    def patiently(self, call: Callable[[], T]) -> T:
        """The result of `call`, said again with growing pauses while the server is away.

        Raises OperationalError after `wait_minutes`, and at once when the server lets this user in nowhere.
        """
        with log_while_waiting(f"PostgreSQL at {without_password(self.url)}", self.wait_minutes * 60):
            return self._repeated(call)

    def _repeated(self, call: Callable[[], T]) -> T:
        from sqlalchemy.exc import DBAPIError

        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                return call()
            except (DBAPIError, self.optuna.exceptions.StorageInternalError) as error:
                cause = error if isinstance(error, DBAPIError) else error.__cause__
                if not isinstance(cause, DBAPIError) or not _is_away(cause):
                    raise
                if _is_refused(cause):
                    raise self._refused(cause) from error
                if time.monotonic() - began > self.wait_minutes * 60:
                    raise self._unreachable(cause) from error
            said = f"{without_password(self.url)} does not answer: waiting {pause:.0f} s, the trial goes on afterwards"
            warnings.warn(said, StorageUnavailable, stacklevel=2)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _unreachable(self, cause: Exception) -> OperationalError:
        what = f"PostgreSQL does not answer ({str(cause).splitlines()[0]})"
        hint = "start it, or check search.storage, and run the same command again: the study goes on"
        return OperationalError(what, without_password(self.url), hint)

    def _refused(self, cause: Exception) -> OperationalError:
        said = str(cause).splitlines()[0].rpartition("FATAL:")[2].strip()
        hint = "check user and database of search.storage, and the password in PGPASSWORD or ~/.pgpass"
        return OperationalError(f"PostgreSQL refuses the connection ({said})", without_password(self.url), hint)

    def _connect(self) -> Any:
        """Optuna's storage; its tables are made by one worker at a time, since two at once would collide."""
        from sqlalchemy import create_engine, text

        storages, address = self.optuna.storages, driver_url(self.url)
        engine = {"pool_pre_ping": True, "connect_args": _CONNECTION}
        lock = create_engine(address, **engine)
        try:
            with lock.connect() as connection:
                connection.execute(text(_LOCK_LIMIT))
                connection.execute(text("SELECT pg_advisory_lock(7151)"))
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
        with self.alone():
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

    def _claim(self, *, may_ask: bool) -> int | None:
        """The number of a trial that is now this worker's: a waiting one first, a new one while there are too few."""
        states = self.optuna.trial.TrialState
        self._adopt()
        self.optuna.storages.fail_stale_trials(self.study)
        with self.alone():
            found = self.study.get_trials(deepcopy=False)
            waiting = any(trial.state == states.WAITING for trial in found)
            begun = [trial for trial in found if trial.state != states.WAITING and not self._again(trial)]
            if not waiting and (len(begun) >= self.plan.trials or not may_ask):
                return None
            self.study.sampler = search.sampler(self.plan, len(found))
            trial = self.study.ask()
            self.storage.record_heartbeat(trial._trial_id)
            search.draw(trial, self.plan.space)
            return int(trial.number)

    def _kept(self, number: int, score: Callable[[Trial, int], float], stop: Callable[[], bool]) -> Trial | None:
        """As `_run`; None for a trial that was taken away: this worker was silent too long, and another has it."""
        try:
            return self._run(number, score, stop)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            said = f"trial {number} was given to another worker: this one was silent for two heartbeats"
            warnings.warn(f"{said}; set search.heartbeat_seconds higher", TrialReassigned, stacklevel=2)
            return None

    def _run(self, number: int, score: Callable[[Trial, int], float], stop: Callable[[], bool]) -> Trial | None:
        """Score the inner folds that are still missing; None when asked to stop before the last."""
        states, trial = self.optuna.trial.TrialState, self.patiently(lambda: self._read(number))
        for inner in range(self.plan.folds):
            if inner not in trial.scores:
                if stop():
                    self.patiently(lambda: self._hand_back(number))
                    return None
                value = score(trial, inner)
                if value != value:
                    self.patiently(lambda: self._live(number).set_user_attr(_DIVERGED, True))
                    return self._end(number, states.FAIL, None)
                trial.scores[inner] = value
                self.patiently(lambda: self._live(number).report(value, inner))  # noqa: B023
            if len(trial.scores) < self.plan.folds and self.patiently(lambda: self._live(number).should_prune()):
                return self._end(number, states.PRUNED, None)
        return self._end(number, states.COMPLETE, trial.mean)

    def _end(self, number: int, state: Any, value: float | None) -> Trial:
        def tell() -> None:
            if self._frozen(number).state == self.optuna.trial.TrialState.RUNNING:  # else an earlier try got through
                self.study.tell(number, value, state=state)

        self.patiently(tell)
        return self.patiently(lambda: self._read(number))

    def _hand_back(self, number: int) -> None:
        """The trial ends here and waits anew with the scores that it has, for whoever comes."""
        frozen = self._frozen(number)
        if frozen.state == self.optuna.trial.TrialState.RUNNING:
            history = [*frozen.system_attrs.get("handed_back", []), number]
            again = self.optuna.trial.create_trial(
                state=self.optuna.trial.TrialState.WAITING,
                params=frozen.params,
                distributions=frozen.distributions,
                system_attrs={**frozen.system_attrs, "handed_back": history},
                intermediate_values=frozen.intermediate_values,
            )
            self.study.add_trial(again)
            self.study.tell(number, state=self.optuna.trial.TrialState.FAIL)

    def _again(self, trial: Any) -> bool:
        """Whether a failed trial stands once more in the study under another number."""
        numbers = set()
        for other in self.study.get_trials(deepcopy=False):
            numbers |= {*other.system_attrs.get("retry_history", []), *other.system_attrs.get("handed_back", [])}
        return trial.number in numbers

    def _others(self) -> bool:
        """Whether a trial is running or waiting."""
        states = self.optuna.trial.TrialState
        return any(t.state in (states.RUNNING, states.WAITING) for t in self.study.get_trials(deepcopy=False))

    def _adopt(self) -> None:
        """Give a first heartbeat to a running trial without one: its worker died, or lost the server, on the way to
        it, and Optuna never misses a heart that never beat."""
        from sqlalchemy import text

        running = [
            trial._trial_id
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state == self.optuna.trial.TrialState.RUNNING
        ]
        with self.storage.engine.connect() as connection:
            beating = {row[0] for row in connection.execute(text("SELECT trial_id FROM trial_heartbeats"))}
        for trial_id in running:
            if trial_id not in beating:
                self.storage.record_heartbeat(trial_id)

    @contextlib.contextmanager
    def _alive(self, number: int) -> Iterator[None]:
        """Inside, a thread tells that the trial lives; while the server is away it keeps trying."""
        trial_id = self.patiently(lambda: self._frozen(number))._trial_id

        def beat() -> None:
            with contextlib.suppress(Exception):  # the worker itself waits, and says so
                self.storage.record_heartbeat(trial_id)

        with call_periodically(beat, self.heartbeat_seconds / 2):
            yield

    def _read(self, number: int) -> Trial:
        return next(trial for trial in search.read_trials(self.study) if trial.number == number)

    def _frozen(self, number: int) -> Any:
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)

    def _live(self, number: int) -> Any:
        return self.optuna.trial.Trial(self.study, self._frozen(number)._trial_id)


def is_shared(url: str | None) -> bool:
    """Whether a storage address is PostgreSQL's."""
    return bool(url) and str(url).startswith(("postgresql://", "postgresql+", "postgres://"))


def driver_url(url: str) -> str:
    """The address with the driver that is installed (psycopg 3)."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", url)


def without_password(url: str) -> str:
    """The address as a message may show it."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:…@", url)


def _is_away(error: Any) -> bool:
    """Whether the server cannot be reached or is shutting down, and not that it refused what was said."""
    from sqlalchemy import exc

    return bool(error.connection_invalidated) or isinstance(error, exc.OperationalError | exc.InterfaceError)


def _is_refused(error: Any) -> bool:
    """Whether the server is there and does not know the user, the database or the password: waiting mends nothing."""
    return _REFUSED.search(str(error)) is not None
