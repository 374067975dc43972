"""A version in one file for a site without a network: a tar archive with the model and everything signed about it.

bundle.json     name and number of the version, its tags, and the ledger from the entry that promoted it to the last one
model/, trust/, card/   the ensemble, its signatures, and card and bills of materials

It contains no predictions, and no names of persons beyond the signed tags, those in the entries of the ledger, and the
approvals that the decision counted. The trust file is not part of it: the site that verifies has its own.
"""

import io
import tarfile
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import storage
from mcti.errors import DataError
from mcti.registry import ledger
from mcti.registry.ledger import LedgerEntry
from mcti.registry.trust import statements
from mcti.registry.trust.material import DOCUMENTS, SIGNATURES, Material

MANIFEST, MODEL = "bundle.json", "model"
_FORMAT = 2
_FOLDERS = (MODEL, SIGNATURES, DOCUMENTS)


class Manifest(BaseModel):
    """bundle.json.

    format    of the bundle; 1 has no signed and no later entries
    decision  entry of the ledger; None: no decision promoted the version
    later     the entries after it
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    name: str
    number: int
    tags: dict[str, str]
    decision: LedgerEntry | None
    later: tuple[LedgerEntry, ...] = ()


class Bundle(Material):
    """The version in a bundle, unpacked below `scratch`.

    Raises DataError when the file is not a bundle.
    """

    has_all_tags = False

    def __init__(self, file: Path, scratch: Path) -> None:
        self._folder = scratch / "bundle"
        _unpack(file, self._folder)
        self._manifest = _read_manifest(self._folder / MANIFEST, file)
        self.name, self.number, self.tags = self._manifest.name, self._manifest.number, self._manifest.tags

    @cached_property
    def ensemble(self) -> Path:
        """The folder of the ensemble."""
        return self._folder / MODEL

    @cached_property
    def signatures(self) -> Path | None:
        """The folder of signatures and statements; None: there is none."""
        return self._existing(SIGNATURES)

    @cached_property
    def documents(self) -> Path | None:
        """The folder of card and bills of materials; None: there is none."""
        return self._existing(DOCUMENTS)

    @cached_property
    def evaluation(self) -> list[Path] | None:
        """None: predictions and outcomes of patients stay in the registry."""
        return None

    @cached_property
    def decision(self) -> LedgerEntry | None:
        """The entry of the ledger that promoted this version; None: there is none."""
        return self._manifest.decision

    @cached_property
    def ledger_faults(self) -> list[str] | None:
        """Faults of the entries in the bundle; None: there is none."""
        if not self.ledger_entries:
            return None
        return ledger.find_faults(self.ledger_entries, None, partial=True)

    @cached_property
    def ledger_entries(self) -> list[LedgerEntry]:
        """The entries from the decision to the last one at the time of the export."""
        return [] if self.decision is None else [self.decision, *self._manifest.later]

    def _existing(self, name: str) -> Path | None:
        return self._folder / name if (self._folder / name).is_dir() else None


def is_bundle(location: str) -> bool:
    """Whether the location is a file; a model in any other form is a folder or an address."""
    return "://" not in location and ":/" not in location and Path(location).is_file()


def write(material: Material, out: storage.Location) -> list[str]:
    """Write the bundle of a version; the names of its files. Equal versions give equal bytes."""
    tags = statements.signed_tags(material.tags)
    decision = material.decision
    later = () if decision is None else tuple(x for x in material.ledger_entries if x.number > decision.number)
    manifest = Manifest(
        format=_FORMAT, name=material.name, number=material.number, tags=tags, decision=decision, later=later
    )
    contents = {MANIFEST: storage.to_json(manifest.model_dump(mode="json")).encode()}
    for name, folder in zip(_FOLDERS, (material.ensemble, material.signatures, material.documents), strict=True):
        if folder is not None:
            paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            contents |= {f"{name}/{relative}": path.read_bytes() for relative, path in paths.items()}
    with storage.replacing(out) as draft, tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(contents):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(contents[name]), 0o644
            archive.addfile(member, io.BytesIO(contents[name]))
    return sorted(contents)


def _unpack(file: Path, folder: Path) -> None:
    """Write the members below `folder`; only plain files of the format, each once."""
    hint = "use the file that `mcti bundle` wrote"
    try:
        with tarfile.open(file, "r:") as archive:
            members = archive.getmembers()
            names = [member.name for member in members]
            invalid = next((m.name for m in members if not _is_expected(m) or names.count(m.name) > 1), None)
            if invalid is not None:
                raise DataError(f"the archive has an unexpected member {invalid!r}", str(file), hint)
            archive.extractall(folder, members, filter="data")
        _check_end(file, archive.offset)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"not a bundle ({error})", str(file), hint) from error
    except OSError as error:
        raise storage.translate_os_error(error, file) from error


def _check_end(file: Path, end: int) -> None:
    """After the last member an archive has zeros only: no signature covers other bytes.

    Raises DataError otherwise.
    """
    with file.open("rb") as stream:
        stream.seek(end)
        if any(any(block) for block in iter(lambda: stream.read(2**20), b"")):
            raise DataError("the archive has bytes after its end", str(file), "use the file that `mcti bundle` wrote")


def _is_expected(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    plain = member.isreg() and not path.is_absolute() and ".." not in path.parts and str(path) == member.name
    return plain and (member.name == MANIFEST or (len(path.parts) > 1 and path.parts[0] in _FOLDERS))


def _read_manifest(path: Path, file: Path) -> Manifest:
    hint = "use the file that `mcti bundle` wrote"
    if not path.is_file() or not (path.parent / MODEL).is_dir():
        raise DataError(f"the archive has no {MANIFEST} or no model", str(file), hint)
    try:
        manifest = Manifest.model_validate(storage.read_json(path))
    except (DataError, ValidationError) as error:
        reason = error.what if isinstance(error, DataError) else error.errors(include_input=False)[0]["msg"]
        raise DataError(f"{MANIFEST} is invalid ({reason})", str(file), hint) from None
    if unsigned := sorted(manifest.tags.keys() - statements.signed_tags(manifest.tags).keys()):
        raise DataError(f"{MANIFEST} has the tag {unsigned[0]}, which no statement covers", str(file), hint)
    if manifest.format not in (1, _FORMAT):
        raise DataError(f"the bundle has format {manifest.format}, not {_FORMAT}", str(file), "install a newer mcti")
    return manifest
