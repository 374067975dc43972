import os
import threading
import time
from pathlib import Path

import pytest

from mcti.errors import DataError, OperationalError
from mcti.training.worker_pool import Pool, _TotalProgress, cores


def square(job: int, channel) -> int:
    channel.progress(1, 1, "jobs")
    return job * job


def fail_at_three(job: int, channel) -> int:
    if job == 3:
        raise DataError("job 3 is malformed", "the test", "remove it")
    while not channel.stop():
        time.sleep(0.01)
    return job


def touch(job: str, channel) -> str:
    Path(job).touch()
    return job


def sign(job: tuple[str, int], channel) -> tuple[int, int]:
    """Record the process, and wait until two have begun a job."""
    folder, number = job
    (Path(folder) / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return number, os.getpid()


def fail_here(parent: int, channel) -> int:
    """Fail in the process `parent`; elsewhere wait until the job must stop."""
    if os.getpid() == parent:
        raise DataError("the job of this process is malformed", "the test", "remove it")
    while not channel.stop():
        time.sleep(0.01)
    return parent


def exit_process(_: int, __) -> int:
    os._exit(1)


def test_results_are_in_the_order_of_the_jobs_with_one_worker_and_with_two():
    for workers in (1, 2):
        with Pool(square, workers, 4) as pool:
            assert pool.map([3, 1, 2, 4]) == [9, 1, 4, 16]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stream_runs_few_jobs_ahead_of_the_results_that_were_taken(workers, tmp_path):
    jobs = [str(tmp_path / f"{number:02}") for number in range(40)]
    with Pool(touch, workers, len(jobs)) as pool:
        results = pool.stream(jobs)
        first = next(results)
        time.sleep(1)  # a stream that runs all jobs would have finished them
        assert len(list(tmp_path.iterdir())) <= 4 * workers + 1
        assert [first, *results] == jobs


def test_one_worker_runs_the_jobs_in_this_process():
    with Pool(lambda job, channel: threading.get_ident(), 1, 3) as pool:
        assert set(pool.map([0, 1, 2])) == {threading.get_ident()}


@pytest.mark.slow
def test_this_process_is_one_of_the_workers_that_take_jobs(tmp_path):
    with Pool(sign, 2, 40, takes_jobs=True) as pool:
        results = pool.map([(str(tmp_path), number) for number in range(40)])
    assert [number for number, _ in results] == list(range(40))
    processes = {process for _, process in results}
    assert os.getpid() in processes
    assert len(processes) == 2


@pytest.mark.slow
def test_an_error_of_a_job_in_this_process_stops_those_of_the_others():
    with Pool(fail_here, 2, 8, takes_jobs=True) as pool, pytest.raises(DataError, match="of this process is malformed"):
        pool.map([os.getpid()] * 8)


@pytest.mark.slow
def test_the_first_failed_job_stops_the_others_and_its_error_is_raised():
    with Pool(fail_at_three, 2, 2) as pool, pytest.raises(DataError, match="job 3 is malformed"):
        pool.map([3, 4])


@pytest.mark.slow
def test_a_worker_that_ends_is_an_error_with_a_hint():
    with Pool(exit_process, 2, 2) as pool, pytest.raises(OperationalError, match=r"died.*train\.workers"):
        pool.map([0, 1])


def test_progress_is_the_sum_over_the_jobs_and_open_jobs_count_as_the_longest():
    reports = []
    total = _TotalProgress(lambda *report: reports.append(report[:2]), 3)
    total(0, 2, 10, "steps")
    total(1, 5, 20, "steps")
    total.finish(2)
    total(1, 20, 20, "steps")
    assert reports == [(2, 30), (7, 50), (22, 30)]


def test_cores_are_at_least_one():
    assert cores() >= 1
