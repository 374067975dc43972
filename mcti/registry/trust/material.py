"""What a verification reads of a version: from the registry, or from a bundle (bundle.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.errors import DataError
from mcti.registry import (
    electronic_signatures,
    ensemble_index,
    evidence,
    ledger,
    models,
    promotion,
    transfer_origin,
)
from mcti.registry.electronic_signatures import ElectronicSignature, UnreadableSignature
from mcti.registry.gates import PROMOTE
from mcti.registry.ledger import LedgerEntry
from mcti.registry.trust import model_signature
from mcti.registry.trust.statements import Facts

SIGNATURES, DOCUMENTS = "trust", "card"
"""Folders of the artifacts of a version's run."""


class Material:
    """A version and everything that was signed about it.

    name, number, tags  of the version
    has_all_tags        whether `tags` has those that are written after the registration, such as approvals
    """

    has_all_tags = True

    name: str
    number: int
    tags: Mapping[str, str]

    @property
    def address(self) -> str:
        """models:/NAME/NUMBER."""
        return f"models:/{self.name}/{self.number}"

    @cached_property
    def ensemble(self) -> Path:
        """The folder of the ensemble."""
        raise NotImplementedError

    @cached_property
    def signatures(self) -> Path | None:
        """The folder of signatures and statements; None: there is none."""
        raise NotImplementedError

    @cached_property
    def documents(self) -> Path | None:
        """The folder of card and bills of materials; None: there is none."""
        raise NotImplementedError

    @cached_property
    def evaluation(self) -> list[Path] | None:
        """The files of the evaluation that the gates read; None: they are not part of the material."""
        raise NotImplementedError

    @cached_property
    def decision(self) -> LedgerEntry | None:
        """The last entry of the ledger that promoted this version; None: there is none."""
        raise NotImplementedError

    @cached_property
    def ledger_faults(self) -> list[str] | None:
        """Faults of the ledger; None: the ledger is not part of the material."""
        raise NotImplementedError

    @cached_property
    def ledger_entries(self) -> list[LedgerEntry]:
        """All entries of the ledger; empty where it is not part of the material."""
        raise NotImplementedError

    @cached_property
    def approvals(self) -> list[ElectronicSignature | UnreadableSignature]:
        """The electronic signatures on this version: those in its tags, then those that only its decision counted."""
        stored = electronic_signatures.read(self.tags)
        known = {one.hash for one in stored if isinstance(one, ElectronicSignature)}
        return stored + [one for one in self.counted_approvals if one.hash not in known]

    @property
    def counted_approvals(self) -> list[ElectronicSignature]:
        """The electronic signatures that the decision counted.

        Raises DataError when the decision has an invalid one.
        """
        return [] if self.decision is None else electronic_signatures.of_decision(self.decision.evidence)

    @cached_property
    def files(self) -> dict[str, str]:
        """SHA-256 of every file of the ensemble, by path."""
        return model_signature.file_hashes(self.ensemble)

    @cached_property
    def facts(self) -> Facts:
        """What the statements are about.

        Raises DataError when a file is missing or has another content than its name states.
        """
        settings, transfer = self._training
        evaluation = None if self.evaluation is None else _hashes(self.evaluation)
        documents = sorted(self.documents.iterdir()) if self.documents else []
        return Facts(self.address, self.tags, self.files, settings, transfer, evaluation, _hashes(documents))

    @property
    def _training(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Settings and transfer of the training, as the first fold states them."""
        first = next((path for path in sorted(self.ensemble.glob("*/model.json"))), None)
        if first is None:
            return {}, {}
        spec = storage.read_json(first)
        try:
            return dict(spec.get("params", {})), transfer_origin.transfer_of(spec)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"{first.relative_to(self.ensemble)} does not describe a trained model"
            raise DataError(what, self.address, "restore it from a backup, or register the model again") from error

    def signature(self, name: str) -> bytes | None:
        """The text of a signed document; None: there is none."""
        path = None if self.signatures is None else self.signatures / f"{name}.json"
        return path.read_bytes() if path is not None and path.is_file() else None


@dataclass(eq=False)
class RegisteredVersion(Material):
    """A version in the registry; each part is downloaded below `scratch` at its first use. client, version: MLflow's.

    alias  by which the version was found: the ledger must agree; "" where it was found by its number
    local  the folder of the ensemble, where it is available
    """

    client: Any
    version: Any
    scratch: Path
    local: Path | None = None
    alias: str = ""

    def __post_init__(self) -> None:
        self.name, self.number, self.tags = self.version.name, int(self.version.version), self.version.tags

    @cached_property
    def ensemble(self) -> Path:
        """The folder of the ensemble.

        Raises DataError when the version is not one of `mcti register`.
        """
        if self.local is not None:
            return self.local
        folder = Path(self.client.download_version(self.name, str(self.number), models.FOLDER, self.scratch / "model"))
        if not (folder / ensemble_index.INDEX).is_file():
            hint = "restore its files from a backup of the bucket, or register the model again"
            raise DataError(f"{ensemble_index.INDEX} is missing", self.address, hint)
        return folder

    @cached_property
    def signatures(self) -> Path | None:
        """The folder of signatures and statements; None: there is none."""
        return self._folder(SIGNATURES)

    @cached_property
    def documents(self) -> Path | None:
        """The folder of card and bills of materials; None: there is none."""
        return self._folder(DOCUMENTS)

    @cached_property
    def evaluation(self) -> list[Path] | None:
        """The files of the evaluation that the gates read.

        Raises DataError when one is missing.
        """
        (self.scratch / "evaluation").mkdir(parents=True, exist_ok=True)
        return evidence.gate_files(self._run_id, self.scratch / "evaluation")

    @cached_property
    def decision(self) -> LedgerEntry | None:
        """The last entry of the ledger that promoted this version; None: there is none."""
        promoted = [x for x in self.ledger_entries if x.action == PROMOTE and x.version == self.number]
        return promoted[-1] if promoted else None

    @cached_property
    def ledger_faults(self) -> list[str] | None:
        """Faults of the ledger of the model, and aliases that differ from it."""
        faults = promotion.find_faults(self.client, self.name, self.ledger_entries)
        if not self.ledger_entries:
            return faults
        head = ledger.head(self.client, self.name)
        return faults + ledger.alias_faults(self.ledger_entries[-1], self.alias, self.number, head)

    @cached_property
    def ledger_entries(self) -> list[LedgerEntry]:
        """All entries of the ledger of the model."""
        return ledger.read(self.name)

    def _folder(self, name: str) -> Path | None:
        if not evidence.names(self._run_id, name):
            return None
        self.scratch.mkdir(parents=True, exist_ok=True)
        return Path(self.client.download_file(self._run_id, name, self.scratch))

    @property
    def _run_id(self) -> str:
        if not self.tags.get(models.RUN):
            raise DataError(f"the version has no tag {models.RUN}", self.address, "register the model again")
        return str(self.tags[models.RUN])


def _hashes(files: list[Path]) -> dict[str, str]:
    return {path.name: model_signature.sha256(path) for path in files}
