"""Rate and remaining time against a clock that the test moves."""

import logging

import pytest

from mcti.progress import (
    FIRST_LOG_SECONDS,
    LOG_INTERVAL_SECONDS,
    ProgressLog,
    RateEstimator,
    format_duration,
    format_progress,
    format_rate,
)


class Clock:
    """Seconds since some moment."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines(caplog):
    """The messages of the progress log so far."""
    caplog.set_level(logging.INFO, "mcti.progress")
    return lambda: [record.getMessage() for record in caplog.records]


def work(report, clock, items, seconds, done=0, total=None, **more):
    """Report `items` finished items, each after `seconds`."""
    for number in range(done + 1, done + items + 1):
        clock.now += seconds
        report(number, total or items, "steps", more.get("detail", ""), more.get("restored", 0))


def test_a_constant_rate_is_found_and_the_remaining_time_follows(clock):
    rate = RateEstimator(clock)
    for done in range(1, 101):
        clock.now += 0.25
        rate.update(done)
    assert rate.rate == pytest.approx(4)
    assert rate.seconds_left(100, 400) == pytest.approx(75)


def test_there_is_no_rate_before_two_seconds_and_one_item(clock):
    rate = RateEstimator(clock)
    assert rate.rate is None
    for done in (1, 2, 9):
        rate.update(done)
        assert rate.rate is None
        clock.now += 0.6
    clock.now += 100
    stuck = RateEstimator(clock)
    stuck.update(3)
    clock.now += 100
    stuck.update(3)
    assert (stuck.rate, stuck.seconds_left(3, 10)) == (None, None)


def test_the_time_before_the_first_item_does_not_count(clock):
    """Compilation takes five minutes; then 2 steps a second."""
    rate = RateEstimator(clock)
    clock.now += 300
    for done in range(1, 12):
        rate.update(done)
        clock.now += 0.5
    assert rate.seconds_left(11, 311) == pytest.approx(150, rel=0.05)


def test_after_a_slow_start_the_last_minute_counts(clock):
    """Twenty steps of 10 s, then steps of 0.1 s: after a minute of these nothing is left of the start."""
    rate = RateEstimator(clock)
    for done in range(1, 21):
        clock.now += 10
        rate.update(done)
    assert rate.rate == pytest.approx(0.1)
    for done in range(21, 721):
        clock.now += 0.1
        rate.update(done)
    assert rate.rate == pytest.approx(10, rel=0.01)


def test_restored_items_are_no_work_of_this_process(clock, lines):
    """Half of 400 steps come from a checkpoint; this process makes 2 a second."""
    log = ProgressLog(clock)
    work(log, clock, 20, 0.5, done=200, total=400, restored=200)
    assert lines() == ["211 of 400 steps, 2 steps/s, 1 min 34 s left"]


def test_a_second_part_that_resumes_in_the_middle_does_not_raise_the_rate(clock):
    """Fold 0 makes 100 steps, then fold 1 comes in with 60 of its steps restored."""
    rate = RateEstimator(clock)
    for done in range(1, 101):
        clock.now += 1
        rate.update(done)
    for done in range(161, 171):
        clock.now += 1
        rate.update(done, restored=60)
    assert rate.rate == pytest.approx(1, rel=0.02)


def test_items_that_take_longer_than_the_window_have_a_rate_between_their_ends(clock):
    """A slide takes ten minutes; a heartbeat reports every 15 s."""
    rate = RateEstimator(clock)
    for beat in range(0, 4 * 60 + 1):
        rate.update(beat // 40)
        clock.now += 15
    assert rate.rate == pytest.approx(1 / 600, rel=0.02)


def test_bursts_of_workers_side_by_side_are_averaged(clock):
    """Eight slides at a time, each for ten minutes."""
    rate = RateEstimator(clock)
    rate.update(0)
    for burst in range(4):
        clock.now += 600
        for number in range(1, 9):
            rate.update(8 * burst + number)
            assert burst < 2 or rate.rate == pytest.approx(8 / 600, rel=0.15)
            clock.now += 0.6


def test_lines_come_early_then_at_intervals_and_once_at_the_end(clock, lines):
    log = ProgressLog(clock)
    work(log, clock, 400, 0.25, detail="loss 0.520")
    assert len(lines()) == 1 + int((100 - FIRST_LOG_SECONDS) / LOG_INTERVAL_SECONDS) + 1
    assert lines()[0] == "21 of 400 steps, 4 steps/s, 1 min 35 s left, loss 0.520"
    assert lines()[-1] == "400 of 400 steps, 4 steps/s, loss 0.520"
    log(400, 400, "steps", "loss 0.520")
    assert len([line for line in lines() if line.startswith("400 of 400")]) == 1


def test_a_total_of_nothing_and_a_single_item_have_no_rate(clock, lines):
    ProgressLog(clock)(0, 0, "slides")
    work(ProgressLog(clock), clock, 1, 100.0)
    assert lines() == ["0 of 0 slides", "1 of 1 steps"]


def test_another_unit_is_measured_from_its_start(clock, lines):
    log = ProgressLog(clock)
    work(log, clock, 8, 1.0)
    for done in range(1, 9):
        clock.now += 10
        log(done, 8, "slides")
    assert lines()[1:] == [
        "8 of 8 steps, 1 steps/s",
        "2 of 8 slides, 6 slides/min, 1 min 0 s left",
        "5 of 8 slides, 6 slides/min, 30 s left",
        "8 of 8 slides, 6 slides/min",
    ]


def test_a_sequence_of_the_same_unit_that_begins_again_is_measured_from_its_start(clock, lines):
    log = ProgressLog(clock)
    work(log, clock, 4, 10.0)
    work(log, clock, 4, 1.0)
    assert lines()[-1] == "4 of 4 steps, 1 steps/s"


def test_what_is_not_known_is_left_out(clock):
    assert format_progress(RateEstimator(clock), 3, 10, "slides") == "3 of 10 slides"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, ""),
        (3.14159, "3.14 steps/s"),
        (0.5, "30 steps/min"),
        (1 / 600, "6 steps/h"),
        (1e-5, "0.036 steps/h"),
        (12345.6, "12346 steps/s"),
    ],
)
def test_a_rate_has_three_digits_in_a_unit_of_time_that_suits_it(rate, text):
    assert format_rate(rate, "steps") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (90, "1 min 30 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert format_duration(seconds) == text
