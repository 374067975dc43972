"""Lines about long waits, with the interval scaled down: against servers that accept and never answer."""

import logging
import re
import subprocess
import sys
import threading

import pytest

from mcti import s3, waiting
from mcti.errors import OperationalError
from mcti.registry import mlflow_client, tracking
from mcti.training.shared_study import SharedStudy
from tests.fault_proxy import never_answering
from tests.training.test_shared_study import plan


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(waiting, "LOG_INTERVAL_SECONDS", 0.1)


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "mcti.waiting"]


def test_a_short_wait_writes_no_line(caplog):
    with waiting.log_while_waiting("something", 60.0):
        pass
    assert lines(caplog) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "mcti-waiting"]


def test_a_long_wait_names_subject_elapsed_and_remaining_time(monkeypatch, caplog):
    now = iter([100.0, 130.0, 160.0])
    monkeypatch.setattr(waiting.time, "monotonic", lambda: next(now, 160.0))
    until_two_lines(caplog, 90.0)
    assert lines(caplog)[:2] == [
        "waiting for a server: 30 s so far, at most 60 s more",
        "waiting for a server: 60 s so far, at most 30 s more",
    ]


def test_a_wait_without_a_limit_names_what_ends_it(caplog):
    until_two_lines(caplog, "ends when the other worker does")
    assert lines(caplog)[0].endswith("s so far, ends when the other worker does")


def until_two_lines(caplog, ends):
    done = threading.Event()

    class Counter(logging.Handler):
        def emit(self, record):
            if len(lines(caplog)) >= 2:
                done.set()

    counter = Counter()
    logging.getLogger("mcti.waiting").addHandler(counter)
    try:
        with waiting.log_while_waiting("a server", ends):
            assert done.wait(60)
    finally:
        logging.getLogger("mcti.waiting").removeHandler(counter)


def without_elapsed(text):
    """A busy machine writes the first line after more than half a second."""
    return re.sub(r"\d+ s so far", "# s so far", text)


def test_the_lines_reach_stderr_of_a_process_that_set_up_no_log():
    code = "import threading; from mcti import waiting; waiting.LOG_INTERVAL_SECONDS = 0.05\n"
    code += "with waiting.log_while_waiting('a server', 'ends'): threading.Event().wait(2)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert without_elapsed(done.stderr).startswith("waiting for a server: # s so far, ends\n")
    assert done.stdout == ""


def test_s3_that_never_answers(monkeypatch, caplog):
    with never_answering() as address:
        monkeypatch.setattr(s3, "_SILENT_SECONDS", 1)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        with pytest.raises(OperationalError, match="S3 does not answer"):
            s3.size("s3://bucket/P-0041.csv")
    host = address.removeprefix("http://")
    assert without_elapsed(lines(caplog)[0]).startswith(f"waiting for S3 ({host}), bucket bucket: # s so far, at most ")
    assert "P-0041" not in caplog.text


def test_the_longest_wait_for_s3_counts_tries_and_pauses(monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    assert s3.longest_wait() == 7 * 65 + 1 + 2 + 4 + 8 + 16 + 20


@pytest.mark.parametrize("text", ["0", "many", "-1", "1.5"])
def test_a_number_of_attempts_that_is_invalid_is_one_clear_error(monkeypatch, text):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", text)
    with pytest.raises(OperationalError, match="no number of attempts in AWS_MAX_ATTEMPTS"):
        s3.size("s3://bucket/key")


def test_mlflow_that_never_answers_the_first_question(monkeypatch, caplog):
    with never_answering() as address:
        monkeypatch.setattr(tracking, "_HEALTH_SECONDS", 0.5)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MCTI_PATIENCE_SECONDS", "1")
        with pytest.raises(OperationalError, match="MLflow does not answer"), tracking.service():
            pass
    assert without_elapsed(lines(caplog)[0]).startswith(f"waiting for MLflow at {address}: # s so far, at most ")


@pytest.mark.parametrize("text", ["soon", "inf", "nan", "-1"])
def test_a_patience_that_is_no_number_is_one_clear_error(monkeypatch, text):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MCTI_PATIENCE_SECONDS", text)
    with (
        pytest.raises(OperationalError, match="not a number of seconds in MCTI_PATIENCE_SECONDS"),
        tracking.service(),
    ):
        pass


def test_mlflow_that_stops_answering_later(monkeypatch, caplog):
    """Each request of MLflow's own client, its retries included."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with never_answering() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setattr(tracking, "_check_health", lambda uri: None)  # it answered this one
        with pytest.raises(OperationalError, match="MLflow failed"), tracking.service() as client:
            client.search_experiments()
    host = address.removeprefix("http://")
    assert without_elapsed(lines(caplog)[0]).startswith(f"waiting for MLflow ({host}): # s so far, at most ")
    assert sum(int(number) for number in re.findall(r"(\d+) s ", lines(caplog)[0])) in (2, 3)  # elapsed and remaining


def test_the_longest_wait_for_mlflow_counts_tries_and_pauses():
    from urllib3.util import Retry

    retries = Retry(total=4, backoff_factor=2, backoff_max=10)
    assert mlflow_client.longest_wait(retries, 120.0) == 5 * 120 + 4 + 8 + 10
    assert mlflow_client.longest_wait(Retry(total=0), (5, 60)) == 65


def test_postgresql_that_never_answers(monkeypatch, caplog):
    with never_answering() as address:
        url = address.replace("http://", "postgresql://me:secret@") + "/none"
        monkeypatch.setattr("mcti.training.shared_study._CONNECTION", {"connect_timeout": 2})
        with pytest.raises(OperationalError, match="PostgreSQL does not answer"):
            SharedStudy(plan(), url, "study-0000001", heartbeat_seconds=1, wait_minutes=0.01)
    assert lines(caplog)[0].startswith("waiting for PostgreSQL at postgresql://me:…@127.0.0.1:")
    assert "secret" not in caplog.text
