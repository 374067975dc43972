"""Question: does Optuna's own `Study.optimize` give the guarantees of mcti/training/shared_study.py on PostgreSQL?

Run    python -m benchmarks.search_optimize     (Debian: apt-get install postgresql)
Prints the number of trials that four workers run when ten are planned (MaxTrialsCallback), and what becomes of Optuna's
heartbeat thread when the server is unavailable for three seconds during a trial.
Results: docs/decisions/0004-shared-study.md.
"""

import os
import threading
import time
import warnings
from typing import Any

import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import Trial, TrialState

from mcti.training.shared_study import driver_url
from tests.training.postgres import Server

PLANNED, WORKERS = 10, 4


def storage(url: str) -> Any:
    """Optuna's storage with a heartbeat of one second and one retry, as shared_study.py has it."""
    retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1, inherit_intermediate_values=True)
    return optuna.storages.RDBStorage(
        driver_url(url),
        engine_kwargs={"pool_pre_ping": True},
        heartbeat_interval=1,
        grace_period=2,
        heartbeat_stale_trial_callback=retry,
    )


def score(trial: Trial) -> float:
    time.sleep(0.3)
    return trial.suggest_float("x", 0, 1)


def count_trials(url: str) -> int:
    """Trials of WORKERS processes that each stop after PLANNED complete ones."""
    optuna.create_study(storage=storage(url), study_name="count")
    children = []
    for _ in range(WORKERS):
        child = os.fork()
        if child == 0:
            study = optuna.load_study(storage=storage(url), study_name="count")
            study.optimize(score, callbacks=[MaxTrialsCallback(PLANNED, states=(TrialState.COMPLETE,))])
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return len(optuna.load_study(storage=storage(url), study_name="count").trials)


def error_of_heartbeat_thread(server: Server) -> str:
    """The error that ends Optuna's heartbeat thread when the server is unavailable for three seconds; empty: none."""
    errors: list[str] = []
    threading.excepthook = lambda event: errors.append(event.exc_type.__name__)

    def during_outage(_: Trial) -> float:
        server.stop()
        time.sleep(3)
        server.start()
        time.sleep(3)
        return 0.0

    optuna.create_study(storage=storage(server.url), study_name="outage").optimize(during_outage, n_trials=1)
    return ", ".join(errors)


def main() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with Server() as server:
        print(f"{WORKERS} workers, {PLANNED} trials planned: {count_trials(server.url)} run")
        print(f"heartbeat thread after an outage of 3 s: {error_of_heartbeat_thread(server) or 'alive'}")


if __name__ == "__main__":
    main()
