"""The chain of entries: every edit, loss and exchange is detected."""

import gc
import itertools
import random

import pytest

from mcti import s3
from mcti.errors import DataError, OperationalError, UsageError
from mcti.registry import ledger
from mcti.registry.ledger import LedgerEntry


def chain(length):
    entries = []
    for number in range(1, length + 1):
        entry = LedgerEntry(
            number=number, id=f"{number:04x}", before=entries[-1].hash if entries else "0" * 64,
            time=f"2026-01-{number:02d}T00:00:00+00:00", who="anna", action="promote", model="m", version=number,
            champion=number, previous=number - 1 or None, evidence={"difference": number / 10},
        )  # fmt: skip
        entries.append(entry.with_hash())
    return entries


def head(entries):
    return f"{entries[-1].number}:{entries[-1].hash}"


def test_a_whole_chain_has_no_faults():
    assert ledger.find_faults(chain(9), head(chain(9))) == []
    assert ledger.find_faults([], None) == []


EDITS = {
    "who": "eve", "action": "reject", "version": 99, "champion": 99, "previous": 98,
    "time": "2026-01-05T11:11:11+00:00", "evidence": {"difference": 0.9},
    "model": "other", "id": "beef", "number": 7, "before": "f" * 64, "hash": "e" * 64,
}  # fmt: skip


@pytest.mark.parametrize(("field", "position"), list(itertools.product(EDITS, range(6))))
def test_every_edited_field_of_every_entry_is_detected(field, position):
    entries = chain(6)
    if getattr(entries[position], field) == EDITS[field]:
        pytest.skip("the edit changes nothing")
    entries[position] = entries[position].model_copy(update={field: EDITS[field]})
    assert ledger.find_faults(entries, head(chain(6)))


@pytest.mark.parametrize("position", range(6))
def test_an_edit_with_a_new_hash_is_detected_by_the_next_entry_or_the_registry(position):
    entries = chain(6)
    entries[position] = entries[position].model_copy(update={"who": "eve"}).with_hash()
    assert ledger.find_faults(entries, head(chain(6)))


@pytest.mark.parametrize("position", range(6))
def test_every_lost_entry_is_detected(position):
    assert ledger.find_faults(chain(6)[:position] + chain(6)[position + 1 :], head(chain(6)))


def test_every_exchange_of_two_entries_is_detected():
    for one, other in itertools.combinations(range(6), 2):
        entries = chain(6)
        entries[one], entries[other] = entries[other], entries[one]
        assert ledger.find_faults(entries, head(chain(6)))


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("how", ["a bit", "another character", "lost", "doubled", "a space", "truncated"])
def test_every_corruption_of_every_byte_of_every_entry_is_detected(position, how):
    entries = chain(3)
    body = ledger.to_bytes(entries[position])
    draw = random.Random(position)
    undetected = []
    for index in range(len(body)):
        replaced = {
            "a bit": bytes([body[index] ^ (1 << draw.randrange(8))]),
            "another character": draw.choice([c for c in b"abcdef0123456789" if c != body[index]]).to_bytes(1, "big"),
            "lost": b"", "doubled": body[index : index + 1] * 2, "a space": body[index : index + 1] + b" ",
        }  # fmt: skip
        changed = body[:index] + (b"" if how == "truncated" else replaced[how] + body[index + 1 :])
        try:
            entry = ledger.parse(changed, "s3://b/entry")
        except DataError:
            continue
        if not ledger.find_faults([*entries[:position], entry, *entries[position + 1 :]], head(entries)):
            undetected.append((index, changed))
    assert undetected == []
    assert ledger.parse(body, "s3://b/entry") == entries[position]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version": 1', b'"version": "1"'),
        (b'"version": 1', b'"version": 1.0'),
        (b"1e-05", b"1e-5"),
        (b"1e-05", b"0.00001"),
        (b"0.25", b"0.250"),
        (b"0.25", b"2.5e-1"),
        (b'"a": 1,\n    "b": 2', b'"b": 2,\n    "a": 1'),
        (b'"a": 1,', b'"a": 1,\n    "a": 1,'),
        ("\u00e9".encode(), b"\\u00e9"),
    ],
)
def test_the_same_values_in_other_bytes_are_an_edit(old, new):
    text = 'caf\u00e9 "\\ \n\x01\x7f\u2028'
    evidence = {"a": 1, "b": 2, "tiny": 0.00001, "quarter": 0.25, "text": text, "none": [], "e": {}}
    entry = chain(1)[0].model_copy(update={"evidence": evidence}).with_hash()
    body = ledger.to_bytes(entry)
    assert ledger.parse(body, "s3://b/entry") == entry
    assert old in body
    with pytest.raises(DataError, match=r"its bytes are not as they were written|not a ledger entry"):
        ledger.parse(body.replace(old, new, 1), "s3://b/entry")


def test_a_clock_that_was_set_back_is_a_fault():
    entries = chain(2)
    entries[1] = entries[1].model_copy(update={"time": "2025-12-31T00:00:00+00:00"}).with_hash()
    assert any("clock" in fault for fault in ledger.find_faults(entries, head(entries)))


@pytest.mark.parametrize("time", ["2026-11-25T03:00:00", "yesterday"])
def test_an_entry_without_a_valid_time_is_refused(time):
    entry = chain(1)[0].model_copy(update={"time": time}).with_hash()
    with pytest.raises(DataError, match="not a ledger entry"):
        ledger.parse(ledger.to_bytes(entry), "s3://b/entry")


def test_a_head_one_entry_behind_is_an_interrupted_writer_and_no_fault():
    assert ledger.find_faults(chain(4), head(chain(3))) == []


def test_an_unsigned_entry_after_a_signed_one_is_refused_and_a_fault(monkeypatch):
    put = []
    monkeypatch.setattr(s3, "put", lambda *a, **k: put.append(a))
    signed = [entry.model_copy(update={"signature": {"any": "bundle"}}) for entry in chain(2)]
    fields = {"action": "rollback", "model": "m", "version": 1, "champion": 1, "previous": None, "evidence": {}}
    with pytest.raises(UsageError, match="entry 2 is signed, and no signing key is configured"):
        ledger.append(signed, **fields)
    assert put == []
    entry = ledger.append(signed, sign=lambda entry: entry.model_copy(update={"signature": {"a": "b"}}), **fields)
    assert entry.signature == {"a": "b"}
    assert len(put) == 1
    expected = ["entry 3 has no signature, but entry 1 before it has one"]
    assert ledger.find_faults([*signed, chain(3)[2]], None) == expected
    later = [*chain(2), chain(3)[2].model_copy(update={"signature": {"a": 1}})]
    assert ledger.find_faults(later, None) == []


def test_nothing_is_written_while_the_clock_is_behind_the_last_entry(monkeypatch):
    put = []
    monkeypatch.setattr(s3, "put", lambda *a, **k: put.append(a))
    ahead = chain(2)
    ahead[1] = ahead[1].model_copy(update={"time": "2999-01-01T00:00:00+00:00"}).with_hash()
    fields = {"action": "promote", "model": "m", "version": 1, "champion": 1, "previous": None, "evidence": {}}
    with pytest.raises(OperationalError, match=r"the clock shows .* before entry 2 of 2999.*correct the clock"):
        ledger.append(ahead, **fields)
    assert put == []
    ledger.append(chain(2), **fields)  # 2026: in order
    assert len(put) == 1


def test_an_entry_is_hashed_as_it_is_read_again(monkeypatch):
    bodies = []
    monkeypatch.setattr(s3, "put", lambda _, body, **__: bodies.append(body))
    fields = {"action": "promote", "model": "m", "version": 1, "champion": 1, "previous": None}
    entry = ledger.append([], **fields, evidence={"looser": ("margin", 1)})
    assert entry.evidence == {"looser": ["margin", 1]}
    assert ledger.parse(bodies[0], "s3://b/1") == entry
    assert ledger.find_faults([entry], None) == []


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_before_also_after_an_error(enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(DataError), ledger.without_garbage_collection():
            ledger.parse(b"", "s3://b/1")
        assert gc.isenabled() is enabled
        with ledger.without_garbage_collection():
            assert not gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()
