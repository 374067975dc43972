"""The chain of lines: every edit, loss and exchange is found."""

import itertools
import random

import pytest

from mcti import s3
from mcti.errors import DataError, OperationalError
from mcti.registry import ledger
from mcti.registry.ledger import LedgerEntry


def chain(length):
    lines = []
    for number in range(1, length + 1):
        line = LedgerEntry(
            number=number, id=f"{number:04x}", before=lines[-1].hash if lines else "0" * 64,
            time=f"2026-01-{number:02d}T00:00:00+00:00", who="anna", action="promote", model="m", version=number,
            champion=number, previous=number - 1 or None, evidence={"lead": number / 10},
        )  # fmt: skip
        lines.append(line.sealed())
    return lines


def head(lines):
    return f"{lines[-1].number}:{lines[-1].hash}"


def test_a_whole_chain_has_no_faults():
    assert ledger.faults(chain(9), head(chain(9))) == []
    assert ledger.faults([], None) == []


EDITS = {
    "who": "eve", "action": "reject", "version": 99, "champion": 99, "previous": 98,
    "time": "2026-01-05T11:11:11+00:00", "evidence": {"lead": 0.9},
    "model": "other", "id": "beef", "number": 7, "before": "f" * 64, "hash": "e" * 64,
}  # fmt: skip


@pytest.mark.parametrize(("field", "position"), list(itertools.product(EDITS, range(6))))
def test_every_edited_field_of_every_line_is_found(field, position):
    lines = chain(6)
    if getattr(lines[position], field) == EDITS[field]:
        pytest.skip("the edit changes nothing")
    lines[position] = lines[position].model_copy(update={field: EDITS[field]})
    assert ledger.faults(lines, head(chain(6)))


@pytest.mark.parametrize("position", range(6))
def test_an_edit_that_mends_its_own_hash_is_found_by_the_next_line_or_the_registry(position):
    lines = chain(6)
    lines[position] = lines[position].model_copy(update={"who": "eve"}).sealed()
    assert ledger.faults(lines, head(chain(6)))


@pytest.mark.parametrize("position", range(6))
def test_every_lost_line_is_found(position):
    assert ledger.faults(chain(6)[:position] + chain(6)[position + 1 :], head(chain(6)))


def test_every_exchange_of_two_lines_is_found():
    for one, other in itertools.combinations(range(6), 2):
        lines = chain(6)
        lines[one], lines[other] = lines[other], lines[one]
        assert ledger.faults(lines, head(chain(6)))


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("how", ["a bit", "another character", "lost", "doubled", "a space", "cut here"])
def test_every_corruption_of_every_byte_of_every_line_is_found(position, how):
    lines = chain(3)
    body = ledger.written(lines[position])
    draw = random.Random(position)
    silent = []
    for at in range(len(body)):
        replaced = {
            "a bit": bytes([body[at] ^ (1 << draw.randrange(8))]),
            "another character": draw.choice([c for c in b"abcdef0123456789" if c != body[at]]).to_bytes(1, "big"),
            "lost": b"", "doubled": body[at : at + 1] * 2, "a space": body[at : at + 1] + b" ",
        }  # fmt: skip
        changed = body[:at] + (b"" if how == "cut here" else replaced[how] + body[at + 1 :])
        try:
            line = ledger.parse(changed, "s3://b/line")
        except DataError:
            continue
        if not ledger.faults([*lines[:position], line, *lines[position + 1 :]], head(lines)):
            silent.append((at, changed))
    assert silent == []
    assert ledger.parse(body, "s3://b/line") == lines[position]


def test_a_clock_set_back_is_told():
    lines = chain(2)
    lines[1] = lines[1].model_copy(update={"time": "2025-12-31T00:00:00+00:00"}).sealed()
    assert any("clock" in fault for fault in ledger.faults(lines, head(lines)))


@pytest.mark.parametrize("time", ["2026-11-25T03:00:00", "yesterday"])
def test_a_line_whose_time_cannot_be_placed_is_no_line(time):
    line = chain(1)[0].model_copy(update={"time": time}).sealed()
    with pytest.raises(DataError, match="no line of a ledger"):
        ledger.parse(ledger.written(line), "s3://b/line")


def test_a_head_one_line_behind_is_a_writer_cut_off_and_no_fault():
    assert ledger.faults(chain(4), head(chain(3))) == []


def test_with_a_clock_set_back_nothing_is_written(monkeypatch):
    put = []
    monkeypatch.setattr(s3, "put", lambda *a, **k: put.append(a))
    ahead = chain(2)
    ahead[1] = ahead[1].model_copy(update={"time": "2999-01-01T00:00:00+00:00"}).sealed()
    fields = {"action": "promote", "model": "m", "version": 1, "champion": 1, "previous": None, "evidence": {}}
    with pytest.raises(OperationalError, match=r"the clock says .* line 2 was written 2999.*set the clock"):
        ledger.append(ahead, **fields)
    assert put == []
    ledger.append(chain(2), **fields)  # 2026: in order
    assert len(put) == 1
