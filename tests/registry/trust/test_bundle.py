"""The bundle: complete, reproducible, verified without a registry; and archives that are refused."""

import io
import json
import tarfile

import pytest

from mcti.errors import DataError
from mcti.registry.ledger_anchors import Anchor
from mcti.registry.trust import bundle, verification
from mcti.registry.trust.bundle import Bundle
from tests.registry.trust.factories import Version, trusting


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundle")
    version = Version(root / "version")
    files = bundle.write(version, root / "lung-os.tar")
    return version, root / "lung-os.tar", files


def states(file, scratch, key):
    return {check.subject: check.state for check in verification.check_all(Bundle(file, scratch), trusting(key))}


def test_a_bundle_is_verified_without_the_registry(written, tmp_path):
    version, file, _ = written
    assert set(states(file, tmp_path, version.key).values()) == {"verified"}


def test_it_contains_the_model_and_its_proofs_and_no_predictions(written):
    _, file, files = written
    with tarfile.open(file) as archive:
        assert sorted(archive.getnames()) == files
        manifest = archive.extractfile("bundle.json").read().decode()
    assert {name.partition("/")[0] for name in files} == {"bundle.json", "model", "trust", "card"}
    assert "trust/model.json" in files
    assert not any("predictions" in name for name in files)
    assert "P-001" not in manifest


def test_it_contains_the_ledger_from_the_decision_on_with_its_signatures(written, tmp_path):
    version, file, _ = written
    bundled = Bundle(file, tmp_path)
    assert bundled.ledger_entries == version.ledger_entries[4:]
    checks = {check.subject: check for check in verification.check_all(bundled, trusting(version.key))}
    assert checks["ledger"].state == "verified"
    assert "last entry 6" in checks["ledger"].note


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda m: m["later"].clear(), "verified"),  # as exported before the rejection: its date shows it
        (lambda m: m["later"][0].update(who="eve"), "broken"),
        (lambda m: m["later"][0].pop("signature"), "broken"),
        (lambda m: m["later"].append(m["later"][0]), "broken"),
        (lambda m: [m["decision"].pop("signature"), m["later"][0].pop("signature")], "unsigned"),
    ],
    ids=["shortened", "edited", "signature removed", "repeated", "all signatures removed"],
)
def test_a_changed_ledger_in_a_bundle_is_found(written, tmp_path, change, state):
    version, file, _ = written

    def edit(name, contents):
        if name == "bundle.json":
            manifest = json.loads(contents)
            change(manifest)
            contents = json.dumps(manifest).encode()
        return keep(name, contents)

    repack(file, tmp_path / "changed.tar", edit)
    assert states(tmp_path / "changed.tar", tmp_path / "s", version.key)["ledger"] == state


def test_a_printed_anchor_is_compared_with_the_ledger_in_the_bundle(written, tmp_path):
    version, file, _ = written
    bundled = Bundle(file, tmp_path)

    def check(number, value):
        return verification.check_anchor(bundled, Anchor(number, value, "--anchor")).state

    assert check(6, version.ledger_entries[5].hash) == "verified"
    assert check(5, version.ledger_entries[4].hash) == "verified"
    assert check(6, "0" * 64) == "broken"
    assert check(7, "0" * 64) == "broken"  # the bundle is older, or its ledger was shortened
    assert check(4, version.ledger_entries[3].hash) == "unknown"


def test_the_ledger_in_a_bundle_of_an_earlier_version_is_unsigned(written, tmp_path):
    version, file, _ = written

    def edit(name, contents):
        if name == "bundle.json":
            manifest = json.loads(contents) | {"format": 1}
            del manifest["later"], manifest["decision"]["signature"]
            contents = json.dumps(manifest).encode()
        return keep(name, contents)

    repack(file, tmp_path / "old.tar", edit)
    by_part = states(tmp_path / "old.tar", tmp_path / "s", version.key)
    assert (by_part["ledger"], by_part["gate-5"]) == ("unsigned", "verified")


def test_equal_versions_give_equal_bytes(written, tmp_path):
    version, file, _ = written
    bundle.write(version, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == file.read_bytes()


def test_tags_outside_the_signed_ones_stay_in_the_registry(written, tmp_path):
    version, _, _ = written
    version.tags["mcti.approved.rita"] = "x"
    try:
        bundle.write(version, tmp_path / "x.tar")
    finally:
        del version.tags["mcti.approved.rita"]
    assert "mcti.approved.rita" not in Bundle(tmp_path / "x.tar", tmp_path / "s").tags


def repack(file, out, change):
    """Copy the archive; change: name and contents to a list of (TarInfo, contents)."""
    with tarfile.open(file) as old, tarfile.open(out, "w") as new:
        for member in old.getmembers():
            for info, contents in change(member.name, old.extractfile(member).read()):
                info.size = len(contents)
                new.addfile(info, io.BytesIO(contents))


def keep(name, contents):
    return [(tarfile.TarInfo(name), contents)]


@pytest.mark.parametrize(
    ("name", "old", "new", "subject"),
    [
        ("bundle.json", b'"mcti.encoder": "hed44"', b'"mcti.encoder": "uni00"', "features"),
        ("bundle.json", b'"number": 3', b'"number": 4', "model"),
        ("bundle.json", b'"who": "paul"', b'"who": "paula"', "gate-5"),
        ("bundle.json", b'"name": "lung-os"', b'"name": "lung-xx"', "training"),
        ("model/fold_0/model.json", b'"epochs": 3', b'"epochs": 4', "model"),
        ("card/card.json", b"card", b"cart", "registration"),
        ("trust/folds.json", b'"sig": "M', b'"sig": "N', "folds"),
    ],
)
def test_a_changed_bundle_is_broken(written, tmp_path, name, old, new, subject):
    version, file, _ = written

    def change(member, contents):
        if member == name:
            assert old in contents
            contents = contents.replace(old, new, 1)
        return keep(member, contents)

    repack(file, tmp_path / "changed.tar", change)
    assert states(tmp_path / "changed.tar", tmp_path / "s", version.key)[subject] == "broken"


def test_a_bundle_without_its_decision_is_unsigned_there(written, tmp_path):
    version, file, _ = written

    def change(name, contents):
        if name == "bundle.json":
            contents = json.dumps(json.loads(contents) | {"decision": None}).encode()
        return keep(name, contents)

    repack(file, tmp_path / "changed.tar", change)
    assert states(tmp_path / "changed.tar", tmp_path / "s", version.key)["gate"] == "unsigned"


def special(member_type, link):
    info = tarfile.TarInfo("model/link")
    info.type, info.linkname = member_type, link
    return [(info, b"")]


@pytest.mark.parametrize(
    "extra",
    [
        keep("../outside", b"x"),
        keep("/absolute", b"x"),
        keep("model/../../outside", b"x"),
        keep("other/file", b"x"),
        keep("model", b"x"),
        keep("bundle.json", b"{}"),
        special(tarfile.SYMTYPE, "/etc/passwd"),
        special(tarfile.LNKTYPE, "bundle.json"),
        special(tarfile.FIFOTYPE, ""),
    ],
    ids=["up", "absolute", "up inside", "unknown folder", "no folder", "repeated", "symlink", "hard link", "pipe"],
)
def test_an_unexpected_member_is_refused_and_nothing_is_unpacked(written, tmp_path, extra):
    _, file, _ = written
    repack(
        file, tmp_path / "x.tar", lambda name, contents: keep(name, contents) + (extra if name == "bundle.json" else [])
    )
    with pytest.raises(DataError, match="unexpected member"):
        Bundle(tmp_path / "x.tar", tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("missing", ["bundle.json", "model/"])
def test_an_archive_without_a_part_is_refused(written, tmp_path, missing):
    _, file, _ = written
    repack(file, tmp_path / "x.tar", lambda name, contents: [] if name.startswith(missing) else keep(name, contents))
    with pytest.raises(DataError, match=r"no bundle\.json or no model"):
        Bundle(tmp_path / "x.tar", tmp_path / "s")


@pytest.mark.parametrize("contents", [b"", b"text", b"\x1f\x8b\x08\x00"])
def test_any_other_file_is_refused(tmp_path, contents):
    (tmp_path / "x.tar").write_bytes(contents)
    with pytest.raises(DataError, match=r"not a bundle|no bundle"):
        Bundle(tmp_path / "x.tar", tmp_path / "s")


def test_a_truncated_bundle_is_refused(written, tmp_path):
    _, file, _ = written
    (tmp_path / "x.tar").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError):
        Bundle(tmp_path / "x.tar", tmp_path / "s")


def test_a_tag_that_no_statement_covers_is_refused(written, tmp_path):
    _, file, _ = written

    def change(name, contents):
        if name == "bundle.json":
            manifest = json.loads(contents)
            contents = json.dumps(manifest | {"tags": manifest["tags"] | {"mcti.approved.eve": "x"}}).encode()
        return keep(name, contents)

    repack(file, tmp_path / "x.tar", change)
    with pytest.raises(DataError, match=r"the tag mcti\.approved\.eve, which no statement covers"):
        Bundle(tmp_path / "x.tar", tmp_path / "s")


@pytest.mark.parametrize("contents", [b"{", b"[" * 100_000, b"\xff\xfe\x00", b"5"])
def test_an_unreadable_manifest_is_refused_by_the_name_of_the_archive(written, tmp_path, contents):
    _, file, _ = written
    repack(file, tmp_path / "x.tar", lambda n, c: keep(n, contents if n == "bundle.json" else c))
    with pytest.raises(DataError, match=r"bundle\.json is invalid") as raised:
        Bundle(tmp_path / "x.tar", tmp_path / "s")
    assert raised.value.where == str(tmp_path / "x.tar")


def test_bytes_after_the_end_of_the_archive_are_refused(written, tmp_path):
    _, file, _ = written
    (tmp_path / "x.tar").write_bytes(file.read_bytes() + b"run me")
    with pytest.raises(DataError, match="bytes after its end"):
        Bundle(tmp_path / "x.tar", tmp_path / "s")


def test_a_later_format_is_refused(written, tmp_path):
    _, file, _ = written
    repack(file, tmp_path / "x.tar", lambda n, c: keep(n, c.replace(b'"format": 2', b'"format": 3')))
    with pytest.raises(DataError, match="format 3, not 2"):
        Bundle(tmp_path / "x.tar", tmp_path / "s")
