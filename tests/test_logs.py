"""The form of a log line: one line, UTC, no control characters, no secrets."""

import logging
import re
import subprocess
import sys

import pytest

from mcti import logs
from mcti.errors import UsageError

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (DEBUG|INFO|WARNING|ERROR) [a-z_. ]+: [^\x00-\x1f\x7f]+\n")


@pytest.fixture
def shown(monkeypatch):
    """The log of this process is shown."""
    monkeypatch.delenv(logs.VARIABLE, raising=False)
    logs.begin()
    yield logging.getLogger("mcti.somewhere")
    logs.end()


def test_a_line_has_time_level_step_and_message(shown, capsys):
    with logs.step("train"):
        shown.info("%d of %d steps", 3, 4)
    shown.warning("between two steps")
    first, second = capsys.readouterr().err.splitlines(keepends=True)
    assert LINE.fullmatch(first)
    assert first.endswith("Z INFO train: 3 of 4 steps\n")
    assert second.endswith("Z WARNING somewhere: between two steps\n")


def test_the_time_is_utc(shown, capsys, monkeypatch):
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    record = logging.LogRecord("mcti.x", logging.INFO, "", 0, "at noon", (), None)
    record.created = 1795953600.0  # 2026-11-29 12:00 UTC: date -u -d 2026-11-29T12:00Z +%s
    logging.getLogger("mcti").handle(record)
    monkeypatch.undo()
    time.tzset()
    assert capsys.readouterr().err == "2026-11-29T12:00:00Z INFO x: at noon\n"


def test_colours_line_breaks_and_carriage_returns_leave_one_plain_line(shown, capsys):
    shown.info("\x1b[31mred\x1b[0m\nnext\rover\ttab\x07")
    line = capsys.readouterr().err
    assert LINE.fullmatch(line)
    assert line.endswith(": red next over tab\n")


def test_secrets_are_hidden(shown, capsys, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdSECRETxyz")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tokentoken")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-name-of-the-key")
    shown.info(
        "postgresql://search:pass%40word@host/db s3 abcdSECRETxyz tokentoken the-name-of-the-key http://host:80/a@b"
    )
    line = capsys.readouterr().err
    assert "postgresql://search:***@host/db s3 *** *** the-name-of-the-key http://host:80/a@b" in line


def test_patient_ids_are_hidden_with_redact(shown, capsys, monkeypatch):
    from mcti import redaction

    monkeypatch.setenv(redaction.VARIABLE, "1")
    shown.info("last patient P-0041")
    assert "P-0041" not in (line := capsys.readouterr().err)
    assert redaction.hashed("P-0041") in line


@pytest.mark.parametrize(
    ("level", "expected"),
    [("DEBUG", "dwe"), ("INFO", "we"), ("ERROR", "e")],
)
def test_the_level_comes_from_the_environment(level, expected, capsys, monkeypatch):
    monkeypatch.setenv(logs.VARIABLE, level)
    logs.begin()
    try:
        log = logging.getLogger("mcti.x")
        log.debug("d")
        log.warning("w")
        log.error("e")
    finally:
        logs.end()
    assert "".join(line[-1] for line in capsys.readouterr().err.splitlines()) == expected


def test_an_unknown_level_is_refused(monkeypatch):
    monkeypatch.setenv(logs.VARIABLE, "LOUD")
    with pytest.raises(
        UsageError, match="'LOUD' is no log level in MCTI_LOG_LEVEL: known: DEBUG, INFO, WARNING, ERROR"
    ):
        logs.begin()
    assert not logs.active()


def test_of_the_processes_of_torchrun_the_first_alone_writes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    logs.begin()
    assert not logs.active()


def test_without_begin_nothing_is_written():
    script = "import logging; logging.getLogger('mcti.steps').info('a line')"
    done = subprocess.run([sys.executable, "-c", f"import mcti; {script}"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
