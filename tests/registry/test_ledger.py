"""The chain of lines: every edit, loss and exchange is found."""

import itertools
import random

import pytest

from mcti.registry import ledger
from mcti.registry.ledger import Line


def chain(length):
    lines = []
    for number in range(1, length + 1):
        line = Line(
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


def test_a_single_changed_character_anywhere_is_found():
    draw = random.Random(1)
    text = chain(3)[1].model_dump_json()
    found = 0
    for _ in range(300):
        at = draw.randrange(len(text))
        changed = text[:at] + draw.choice("abcdef0123456789") + text[at + 1 :]
        if changed == text:
            continue
        try:
            line = Line.model_validate_json(changed)
        except ValueError:
            continue
        if line == chain(3)[1]:
            continue  # the same value written another way
        found += 1
        assert ledger.faults([chain(3)[0], line, chain(3)[2]], head(chain(3)))
    assert found > 50


def test_a_clock_set_back_is_told():
    lines = chain(2)
    lines[1] = lines[1].model_copy(update={"time": "2025-12-31T00:00:00+00:00"}).sealed()
    assert any("clock" in fault for fault in ledger.faults(lines, head(lines)))


def test_a_head_one_line_behind_is_a_writer_cut_off_and_no_fault():
    assert ledger.faults(chain(4), head(chain(3))) == []
