"""The questions of `mcti init` in a pseudo-terminal: the program as a user starts it, answered line by line."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.project.cohorts import canonical

BIN = Path(sys.executable).parent
LIMIT_SECONDS = 120  # of a wait for one line; other processes may use the machine
INTERRUPT = "\x03"  # Ctrl-C: the terminal sends SIGINT to the foreground processes


class Terminal:
    """A program whose standard streams are one pseudo-terminal."""

    def __init__(self, words, cwd) -> None:
        self.controller, program_side = pty.openpty()
        environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"}
        self.process = subprocess.Popen(
            words, cwd=cwd, env=environment, stdin=program_side, stdout=program_side, stderr=program_side,
            preexec_fn=lambda: _login(program_side),
        )  # fmt: skip
        os.close(program_side)
        self.shown, self._read = "", 0

    def wait(self, text: str) -> None:
        """Wait until a text is shown that has not been waited for."""
        while text not in self.shown[self._read :]:
            assert self._receive(), f"no {text!r} in:\n{self.shown}"
        self._read = self.shown.index(text, self._read) + len(text)

    def answer(self, question: str, text: str) -> None:
        """Wait for a question, and type."""
        self.wait(question)
        if text == INTERRUPT:
            self._wait_for_read()
        os.write(self.controller, text.encode() if text == INTERRUPT else f"{text}\n".encode())

    def _wait_for_read(self) -> None:
        """Wait until the program waits for its input: a signal between the question and the read ends no read."""
        program, waiting = psutil.Process(self.process.pid), 0
        for _ in range(LIMIT_SECONDS * 10):
            waiting = waiting + 1 if program.status() == psutil.STATUS_SLEEPING else 0
            if waiting == 5:
                return
            time.sleep(0.1)
        raise AssertionError(f"the program does not wait for an answer:\n{self.shown}")

    def end(self) -> int:
        """The exit code, after all output was read."""
        while self._receive():
            pass
        return self.process.wait(LIMIT_SECONDS)

    def _receive(self) -> bool:
        ready, _, _ = select.select([self.controller], [], [], LIMIT_SECONDS)
        try:
            received = os.read(self.controller, 65536).decode() if ready else ""
        except OSError:  # Linux: the program has closed its side
            received = ""
        self.shown += received
        return bool(received)


def _login(program_side: int) -> None:
    """Make the pseudo-terminal the controlling terminal of a new session."""
    import fcntl

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts its background jobs with this signal ignored
    os.setsid()
    fcntl.ioctl(program_side, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(tmp_path):
    """`mcti init` on a table whose column of sex has codes, in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    flags = canonical(folder)
    program = Terminal([str(BIN / "mcti"), "init", "p", *flags], folder)
    yield program, folder
    if program.process.poll() is None:
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
    os.close(program.controller)


@pytest.mark.slow
def test_a_wrong_answer_is_requested_again_and_the_correction_is_written(terminal):
    program, folder = terminal
    program.answer("unit of the times", "weeks")
    program.answer("'weeks' is none of days, months, years", "days")
    program.answer("end point", "OSS")
    program.answer("OSS: none of OS", "DSS")
    program.answer("scale of the expression", "log2")
    program.answer("covariates of the network", "agee")
    program.wait("column 'agee' of --covariate is missing")
    for question in ("[days]: ", "[DSS]: ", "[log2]: "):  # the answers of the first round are proposed
        program.answer(question, "")
    program.answer("covariates of the network", "age")
    assert program.end() == 0, program.shown
    settings = yaml.safe_load((folder / "p/params.yaml").read_text(encoding="utf-8"))
    assert (settings["ingest"]["time_unit"], settings["ingest"]["endpoint"]) == ("days", "DSS")
    assert settings["ingest"]["expression_scale"] == "log2"
    assert settings["train"]["architecture"]["covariates"] == ["age"]


@pytest.mark.slow
def test_an_interrupt_ends_with_one_line_and_nothing_is_written(terminal):
    program, folder = terminal
    before = sorted(folder.rglob("*"))
    program.answer("unit of the times", "months")
    program.answer("end point", INTERRUPT)
    assert program.end() == 130, program.shown
    assert sorted(folder.rglob("*")) == before
    assert "Traceback" not in program.shown
    (line,) = [line for line in program.shown.splitlines() if line.startswith("error: ")]
    assert "interrupted" in line
