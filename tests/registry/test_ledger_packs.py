"""Packs of ledger entries on a real S3: fewer requests, the same bytes, and no effect of an altered pack."""

import hashlib

import pytest

from mcti import s3, storage
from mcti.errors import OperationalError
from mcti.registry import ledger, ledger_packs

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture
def folder(servers_of, monkeypatch, request):
    """The folder of a ledger whose packs have three entries."""
    monkeypatch.setattr(ledger_packs, "SIZE", 3)
    monkeypatch.setenv("MCTI_LEDGER", f"s3://mcti-data/packs-{abs(hash(request.node.name))}")
    return ledger.folder("m")


@pytest.fixture
def bodies(folder):
    """Eight objects, of which six are packed; their bytes by address."""
    bodies = {f"{folder}{number:08d}.json": f'{{"number": {number}}}\n'.encode() for number in range(1, 9)}
    for address, body in bodies.items():
        s3.put(address, body)
    pack(folder, bodies)
    return bodies


@pytest.fixture
def reads(monkeypatch, bodies):
    """The addresses that are read, in order."""
    addresses, read_bytes = [], storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda address: addresses.append(address) or read_bytes(address))
    return addresses


def pack(folder, bodies):
    ledger_packs.store(folder, len(bodies), lambda position: list(bodies.values())[position])


def packs(folder):
    return [f"{folder[:-1]}:packs/0000000{number}.pack" for number in (3, 6)]


def test_packed_entries_are_read_from_the_packs_and_the_others_from_their_objects(folder, bodies, reads):
    assert s3.etags(folder) == {
        address: hashlib.md5(body, usedforsecurity=False).hexdigest() for address, body in bodies.items()
    }
    assert ledger_packs.read(folder) == bodies
    assert reads == [*packs(folder), *list(bodies)[6:]]


def test_the_packs_are_not_below_the_folder_of_the_entries(folder, bodies):
    assert s3.addresses(folder) == list(bodies)
    assert s3.addresses(f"{folder[:-1]}:packs/") == packs(folder)


@pytest.mark.parametrize("altered", [b"", b"\0\0", b'{"number": 9}\n\0{"number": 2}\n', b"\xff" * 100])
def test_an_altered_pack_changes_no_byte_of_the_ledger(folder, bodies, reads, altered):
    s3.put(packs(folder)[0], altered)
    assert ledger_packs.read(folder) == bodies


def test_an_edited_entry_is_read_as_it_is_and_not_from_its_pack(folder, bodies, reads):
    first = next(iter(bodies))
    s3.put(first, b"edited")
    assert ledger_packs.read(folder) == bodies | {first: b"edited"}
    assert first in reads


def test_a_lost_entry_is_not_replaced_by_its_copy(folder, bodies):
    first = next(iter(bodies))
    s3.remove(first)
    assert list(ledger_packs.read(folder)) == list(bodies)[1:]


def test_entries_under_exchanged_numbers_are_not_put_in_order(folder, bodies):
    one, two = list(bodies)[:2]
    s3.put(one, bodies[two])
    s3.put(two, bodies[one])
    assert ledger_packs.read(folder) == bodies | {one: bodies[two], two: bodies[one]}


def test_etags_that_are_no_md5s_are_not_compared_with_copies(folder, bodies, reads, monkeypatch):
    etags = s3.etags
    monkeypatch.setattr(
        s3, "etags", lambda prefix, **options: {name: f"{tag}-1" for name, tag in etags(prefix, **options).items()}
    )
    assert ledger_packs.read(folder) == bodies
    assert set(reads) == {*packs(folder), *bodies}


def test_existing_packs_are_kept_and_missing_ones_written(folder, bodies):
    etag = s3.etags(packs(folder)[0])
    s3.remove(packs(folder)[1])
    pack(folder, bodies)
    assert s3.etags(packs(folder)[0]) == etag
    assert s3.exists(packs(folder)[1])


def test_a_failure_to_write_packs_is_logged_only(folder, bodies, monkeypatch, caplog):
    s3.remove(packs(folder)[0])

    def refuse(*_):
        raise OperationalError("the bucket is read-only")

    monkeypatch.setattr(s3, "put", refuse)
    pack(folder, bodies)
    assert "entries of the ledger were not packed: the bucket is read-only" in caplog.text
