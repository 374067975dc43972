"""The time limit of a slide and the cancellation of a run."""

import threading

import numpy as np
import pytest

from mcti.slides.deadline import Deadline, DeadlineReader
from mcti.slides.status import SlideError, Status


class OnePixel:
    name, levels, closed = "fake", [], False

    def read(self, level, x, y, width, height, shrink=1, *, keep, buffer):
        return np.zeros((height, width, 3), np.uint8)

    def close(self):
        self.closed = True


def test_work_continues_without_a_limit():
    Deadline(0.0, threading.Event()).check()


def test_a_slide_past_its_limit_is_timed_out(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    deadline = Deadline(minutes=2.0)
    monkeypatch.setattr("time.monotonic", lambda: 120.0)
    deadline.check()
    monkeypatch.setattr("time.monotonic", lambda: 120.1)
    with pytest.raises(SlideError, match=r"not finished after 2 min: raise extract\.slide_minutes") as caught:
        deadline.check()
    assert caught.value.status is Status.TIMED_OUT


def test_a_cancelled_run_reads_no_further_region():
    cancelled = threading.Event()
    reader = DeadlineReader(OnePixel(), Deadline(cancelled=cancelled))
    assert reader.read(0, 0, 0, 4, 2).shape == (2, 4, 3)
    cancelled.set()
    with pytest.raises(KeyboardInterrupt):
        reader.read(0, 0, 0, 4, 2)


def test_closing_closes_the_underlying_reader():
    reader = OnePixel()
    DeadlineReader(reader, Deadline()).close()
    assert reader.closed
