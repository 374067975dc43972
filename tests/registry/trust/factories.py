"""Keys, certificates and signed bundles of a small synthetic version, without a registry."""

import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcti import storage
from mcti.registry import ensemble_files, evidence, ledger, models
from mcti.registry.ledger import LedgerEntry
from mcti.registry.trust import envelope, keys, ledger_signatures, model_signature, statements
from mcti.registry.trust.envelope import SignedDocument
from mcti.registry.trust.keys import Signer
from mcti.registry.trust.material import Material
from mcti.registry.trust.trust_file import TrustFile
from tests.registry.factories import Run

TIME = "2025-06-01T12:00:00Z"
ALL_ROLES = ["model", "lineage", "gate", "ledger", "approval"]


def new_key(curve=ec.SECP256R1):
    return ec.generate_private_key(curve())


def private_pem(key, password=None):
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def public_pem(key):
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form)


def signer_of(key, certificates=()):
    public = key.public_key()
    return Signer(public, lambda message: key.sign(message, ec.ECDSA(keys.hash_of(public))), tuple(certificates))


def trusting(key, name="site", roles=ALL_ROLES, **fields):
    entry = {"id": name, "public_key": public_pem(key).decode(), "roles": roles, **fields}
    return TrustFile.model_validate({"keys": [entry]})


def write_site(folder):
    """A new key in `folder` that the trust file next to it permits to sign everything; the paths of both."""
    key, (key_file, trust_file) = new_key(), (folder / "key.pem", folder / "trust.yaml")
    key_file.write_bytes(private_pem(key))
    lines = "".join(f"    {line}\n" for line in public_pem(key).decode().splitlines())
    trust_file.write_text(f"keys:\n- id: site\n  roles: [{', '.join(ALL_ROLES)}]\n  public_key: |\n{lines}")
    return key_file, trust_file


def certificate(subject, issuer, *, is_authority, days=(-365, 365), signs=True):
    """A certificate. subject, issuer: (name, key); days: validity relative to `TIME`; signs: its key usage."""
    at = datetime.datetime.fromisoformat(TIME)
    name, signed_by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject[0], issuer[0]))
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                           "encipher_only", "decipher_only"), False)  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signed_by)
        .public_key(subject[1].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at + datetime.timedelta(days=days[0]))
        .not_valid_after(at + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=signs, key_cert_sign=is_authority, crl_sign=is_authority, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject[1].public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False)
    )
    return builder.sign(issuer[1], hashes.SHA256())


def der(*certificates):
    return tuple(c.public_bytes(serialization.Encoding.DER) for c in certificates)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


DECISIONS = [("promote", 1, 1, None), ("promote", 2, 2, 1), ("rollback", 1, 1, None), ("reject", 3, 1, None),
             ("promote", 3, 3, 1), ("reject", 2, 3, 1)]  # fmt: skip
"""action, version, champion, previous of the entries of `signed_chain`."""


def signed_chain(key=None, evidence=None, decisions=DECISIONS, first_signed=1):
    """A ledger of lung-os, one entry per day from 2025-05-28; unsigned without a key, and before `first_signed`."""
    entries = []
    for number, (action, version, champion, previous) in enumerate(decisions, start=1):
        time = datetime.datetime(2025, 5, 27, 12, tzinfo=datetime.UTC) + datetime.timedelta(days=number)
        entry = LedgerEntry(
            number=number, id=f"{number:016x}", before=entries[-1].hash if entries else "0" * 64,
            time=time.isoformat(timespec="seconds"), who="paul", action=action, model="lung-os", version=version,
            champion=champion, previous=previous, evidence=evidence or {"reason": f"reason {number}"},
        ).with_hash()  # fmt: skip
        entries.append(sign_entry(entry, key) if key and number >= first_signed else entry)
    return entries


def sign_entry(entry, key):
    """The entry with a signature by this key."""
    document = signer_of(key).sign(ledger_signatures.payload(entry))
    return entry.model_copy(update={"signature": envelope.to_bundle(document)})


@dataclass(eq=False)
class Version(Material):
    """A signed version in folders, as the registry stores it; a test changes what it likes before the verification."""

    root: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    folds: int = 3
    megabytes: int = 0  # random bytes instead of the weights of each fold, which no verification loads

    def __post_init__(self):
        self.run = run = Run(self.root / "run", folds=self.folds)
        if self.megabytes:
            for path in run.models.glob("fold_*/weights.safetensors"):
                path.write_bytes(os.urandom(self.megabytes * 2**20))
        self.name, self.number = "lung-os", 3
        self.ensemble, self.documents = self.root / "ensemble", self.root / "card"
        self.signatures, self.reports = self.root / "trust", self.root / "evaluation"
        digest = ensemble_files.assemble(run.models, self.ensemble)
        for folder in (self.documents, self.signatures, self.reports):
            folder.mkdir()
        for name in ("card", "sbom", "mlbom"):
            storage.write_json(self.documents / f"{name}.json", {"name": name})
        for name in ("metrics.json", "predictions.csv", "groups.csv", "result.json"):
            (self.reports / name).write_bytes((run.evaluation / name).read_bytes())
        self.evaluation = [self.reports / n for n in ("metrics.json", "predictions.csv", "groups.csv", "result.json")]
        self.tags = {
            models.DIGEST: digest,
            models.EVALUATION: evidence.md5_of_files("passed", self.evaluation),
            models.CONTRACT: "passed",
            models.RUN: "f" * 32,
            "mcti.commit": "a" * 40,
            "mcti.image": "registry/mcti@sha256:" + "b" * 64,
            "mcti.folds": "c" * 64,
            "mcti.encoder": "hed44",
            "mcti.encoder_sha256": "9" * 64,
            "mcti.data.source": "d" * 32 + ".dir",
            "mcti.data.data/cohort": "1" * 32 + ".dir",
            "mcti.data.data/folds.csv": "2" * 32,
            "mcti.licence.data": "CC-BY-4.0",
            "mcti.registered_by": "rita",
        }
        self.decision = self.entry()
        self.ledger_entries = signed_chain(self.key, self.decision.evidence)
        self.decision = self.ledger_entries[4]
        self.head = f"6:{self.ledger_entries[-1].hash}"  # in the registry
        self.sign_all()

    @property
    def ledger_faults(self):
        return ledger.find_faults(self.ledger_entries, self.head)

    def entry(self, action="promote", **changes):
        evidence_ = {"digest": self.tags[models.DIGEST], "params": {"margin": 0.0}}
        fields = {"number": 5, "id": "0" * 16, "before": "0" * 64, "time": TIME, "who": "paul", "action": action}
        fields |= {"model": self.name, "version": self.number, "champion": 3, "previous": 2, "evidence": evidence_}
        return LedgerEntry(**(fields | changes)).with_hash()

    def payloads(self, time=TIME):
        facts, entry = self.facts, self.decision
        return {
            "model": model_signature.payload(self.files, self.name, self.address, time),
            **{step: statements.payload(step, facts, time) for step in statements.STEPS},
            f"gate-{entry.number}": statements.gate_payload(entry, self.address, self.tags[models.EVALUATION], time),
        }

    def sign_all(self, key=None, time=TIME, certificates=()):
        for name, payload in self.payloads(time).items():
            self.write(name, signer_of(key or self.key, certificates).sign(payload))

    def sign(self, name, payload, key=None):
        self.write(name, signer_of(key or self.key).sign(payload))

    def write(self, name, document: SignedDocument):
        (self.signatures / f"{name}.json").write_text(envelope.write(document))

    def read(self, name):
        return envelope.read((self.signatures / f"{name}.json").read_bytes())

    def again(self):
        """The same folders, nothing computed yet."""
        self.__dict__.pop("files", None)
        self.__dict__.pop("facts", None)
        return self
