"""Keys and authorities of a site: roles, validity, rotation, revocation."""

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from mcti.errors import DataError
from mcti.registry.trust import trust_file
from mcti.registry.trust.trust_file import TrustFile
from tests.registry.trust.factories import (
    ALL_ROLES,
    certificate,
    der,
    new_key,
    pem,
    public_pem,
    signer_of,
    trusting,
)

SIGNED = datetime(2025, 6, 1, 12, tzinfo=UTC)
BEFORE, AFTER = SIGNED - timedelta(days=1), SIGNED + timedelta(days=1)


@pytest.fixture
def key():
    return new_key()


def check(key, role="model", signed=SIGNED, signed_by=None, **fields):
    document = signer_of(signed_by or key).sign(b"payload")
    return trusting(key, **fields).check(document, role, signed)


def test_a_key_signs_in_its_roles_only(key):
    assert check(key, roles=["model"]).state == "verified"
    for role in ("lineage", "gate"):
        result = check(key, role, roles=["model"])
        assert (result.state, result.note) == ("broken", f"key site may not sign this: it has no role {role}")


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"valid_from": BEFORE, "valid_to": AFTER}, "verified"),
        ({"valid_from": AFTER}, "broken"),
        ({"valid_to": BEFORE}, "broken"),
        ({"revoked_at": AFTER}, "broken"),  # compromised: its holder can date a signature freely
        ({"revoked_at": AFTER, "revocation": "retired"}, "verified"),
        ({"revoked_at": BEFORE, "revocation": "retired"}, "broken"),
        ({"revoked_at": datetime(2999, 1, 1, tzinfo=UTC)}, "verified"),  # not in force yet
    ],
)
def test_the_date_of_a_signature_decides(key, fields, state):
    assert check(key, **fields).state == state


def test_a_signature_without_a_date_counts_as_of_now(key):
    assert check(key, signed=None, valid_to=AFTER).state == "broken"
    assert check(key, signed=None, revoked_at=AFTER, revocation="retired").state == "broken"
    assert check(key, signed=None, valid_from=AFTER).state == "verified"


def test_after_a_rotation_signatures_of_both_keys_are_verified():
    old, new = new_key(), new_key()
    entries = [
        {"id": "2025", "public_key": public_pem(old).decode(), "roles": ["model"], "valid_to": SIGNED},
        {"id": "2026", "public_key": public_pem(new).decode(), "roles": ["model"], "valid_from": SIGNED},
    ]
    trust = TrustFile.model_validate({"keys": entries})
    results = [
        trust.check(signer_of(key).sign(b"x"), "model", date)
        for key, date in ((old, BEFORE), (new, AFTER), (old, AFTER), (new, BEFORE))
    ]
    assert [result.state for result in results] == ["verified", "verified", "broken", "broken"]
    assert [result.signer for result in results] == ["2025", "2026", "2025", "2026"]


def test_the_signature_of_another_key_is_unknown(key):
    assert check(key, signed_by=new_key()).state == "unknown"


@pytest.fixture
def authority():
    return new_key()


def check_certificate(authority, key, leaf, *chain, signed=SIGNED, root=None):
    root = root or certificate(("ca", authority), ("ca", authority), is_authority=True, days=(-4000, 4000))
    entry = {"id": "hospital", "certificate": pem(root).decode(), "roles": ALL_ROLES}
    document = signer_of(key, der(leaf, *chain)).sign(b"payload")
    return TrustFile.model_validate({"authorities": [entry]}).check(document, "model", signed)


def test_a_certificate_of_a_trusted_authority_is_verified(authority, key):
    leaf = certificate(("signer", key), ("ca", authority), is_authority=False)
    result = check_certificate(authority, key, leaf)
    assert (result.state, result.signer) == ("verified", "hospital")


def test_a_chain_with_an_intermediate_authority_is_verified(authority, key):
    between = new_key()
    middle = certificate(("between", between), ("ca", authority), is_authority=True)
    leaf = certificate(("signer", key), ("between", between), is_authority=False)
    assert check_certificate(authority, key, leaf, middle).state == "verified"
    assert check_certificate(authority, key, leaf).state == "unknown"


def test_certificates_that_do_not_prove_the_signer_are_unknown(authority, key):
    other = new_key()
    cases = {
        "another authority": certificate(("signer", key), ("ca", other), is_authority=False),
        "self-signed": certificate(("signer", key), ("signer", key), is_authority=False),
        "expired": certificate(("signer", key), ("ca", authority), is_authority=False, days=(-30, -1)),
        "not valid yet": certificate(("signer", key), ("ca", authority), is_authority=False, days=(1, 30)),
        "not for signatures": certificate(("signer", key), ("ca", authority), is_authority=False, signs=False),
    }
    assert {name: check_certificate(authority, key, leaf).state for name, leaf in cases.items()} == dict.fromkeys(
        cases, "unknown"
    )


def test_a_certificate_issued_by_a_signer_is_not_trusted(authority, key):
    """A signer must not be able to appoint others: its certificate is no authority."""
    leaf = certificate(("signer", key), ("ca", authority), is_authority=False)
    other = new_key()
    forged = certificate(("other", other), ("signer", key), is_authority=False)
    assert check_certificate(authority, other, forged, leaf).state == "unknown"


def test_a_signature_that_is_not_of_its_certificate_is_broken(authority, key):
    leaf = certificate(("signer", new_key()), ("ca", authority), is_authority=False)
    assert check_certificate(authority, key, leaf).state == "broken"


def test_the_file_is_read(tmp_path, key):
    path = tmp_path / "trust.yaml"
    path.write_text(
        "keys:\n- id: site\n  roles: [model, gate]\n  valid_from: 2025-01-01T00:00:00Z\n  public_key: |\n"
        + "".join(f"    {line}\n" for line in public_pem(key).decode().splitlines())
    )
    entry = trust_file.load(str(path)).keys[0]
    assert (entry.id, entry.roles, entry.valid_from) == ("site", ("model", "gate"), datetime(2025, 1, 1, tzinfo=UTC))
    assert trust_file.load(None) == TrustFile()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"roles": ["everything"]}, r"keys\.0\.roles\.0"),
        ({"roles": []}, r"keys\.0\.roles"),
        ({"public_key": "no key"}, "not a public key in PEM"),
        ({"public_key": public_pem(new_key(ec.SECP256K1)).decode()}, "curve secp256k1"),
        ({"valid_from": "2025-01-01"}, r"keys\.0\.valid_from"),
        (
            {"valid_from": "2025-01-02T00:00:00Z", "valid_to": "2025-01-01T00:00:00Z"},
            "valid_to is not after valid_from",
        ),
        ({"valid_until": "2025-01-01T00:00:00Z"}, r"keys\.0\.valid_until"),
        ({"revocation": "lost"}, r"keys\.0\.revocation"),
    ],
)
def test_an_invalid_entry_is_named(tmp_path, key, changes, reason):
    entry = {"id": "site", "roles": ["model"], "public_key": public_pem(key).decode()} | changes
    (tmp_path / "trust.yaml").write_text(yaml.safe_dump({"keys": [entry]}))
    with pytest.raises(DataError, match=reason):
        trust_file.load(str(tmp_path / "trust.yaml"))


@pytest.mark.parametrize("same", ["id", "public_key"])
def test_a_repeated_id_or_key_is_refused(tmp_path, key, same):
    entries = [
        {"id": name, "roles": ["model"], "public_key": public_pem(k).decode()}
        for name, k in (("a", key), ("b", new_key()))
    ]
    entries[1][same] = entries[0][same]
    (tmp_path / "trust.yaml").write_text(yaml.safe_dump({"keys": entries}))
    with pytest.raises(DataError, match="is listed twice"):
        trust_file.load(str(tmp_path / "trust.yaml"))


def test_a_file_that_is_missing_or_no_yaml_is_refused(tmp_path):
    with pytest.raises(DataError):
        trust_file.load(str(tmp_path / "missing.yaml"))
    (tmp_path / "trust.yaml").write_text("keys: [")
    with pytest.raises(DataError, match="not a YAML file"):
        trust_file.load(str(tmp_path / "trust.yaml"))
