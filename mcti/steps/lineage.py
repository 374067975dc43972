"""lineage: from a model version to the run, pipeline, image, commit and data it came from, and back."""

import re
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mcti import pinned, storage, versions
from mcti.errors import DataError, MctiError, UsageError
from mcti.registry import ensemble_files, evidence, ledger, models, promotion, tracking
from mcti.registry import lineage as origins
from mcti.steps.result import StepResult

State = Literal["verified", "recorded", "dirty", "unknown", "FAULT"]
_BACK = {"kfp-run": "mcti.kfp_run", "pipeline": "mcti.pipeline", "image": "mcti.image", "commit": "mcti.commit"} | {
    "data": origins.SOURCE
}


class Link(BaseModel):
    """One link of the chain: `verified` was recomputed now, `recorded` was only read, `dirty` is no commit's code."""

    model_config = ConfigDict(frozen=True)
    what: str
    value: str
    state: State
    note: str = ""


class LineageResult(StepResult):
    """The chain of one version."""

    name: str
    version: int
    links: tuple[Link, ...]

    def lines(self) -> list[str]:
        """For people: a link a line."""
        width = max(len(link.what) for link in self.links)
        told = [f"{x.what:<{width}}  {x.state:<8}  {x.value}{f'  ({x.note})' if x.note else ''}" for x in self.links]
        return [f"{self.name} version {self.version}", *told]


class DescendantsResult(StepResult):
    """The versions that came from one run, pipeline, image, commit or data version."""

    source: str
    versions: tuple[str, ...]


def lineage(address: str, remote: str | None = None) -> LineageResult:
    """The chain of a model version; every hash in it that can be recomputed is.

    address models:/NAME@ALIAS or models:/NAME/NUMBER
    remote  DVC's remote, s3://bucket/prefix: sources, cohort and features are read whole and compared with their MD5s;
            None: they are not
    Raises  DataError naming every link that is broken; OperationalError when the registry or S3 is in the way
    """
    models.parse_address(address)
    with tracking.service() as client, tempfile.TemporaryDirectory(prefix="mcti-lineage-") as scratch:
        version = models.version_at(client, address)
        links = [
            _weights(version, Path(scratch)),
            _evaluation(version, Path(scratch)),
            *_data(version, remote),
            _commit(version),
            *_run(client, version),
            _ledger(client, version),
        ]
    result = LineageResult(name=version.name, version=int(version.version), links=tuple(links))
    broken = [f"{link.what}: {link.note}" for link in links if link.state == "FAULT"]
    if broken:
        hint = "restore what was altered from its backup, or register the model anew"
        raise DataError("; ".join(broken), f"{version.name} version {version.version}", hint)
    return result


def descendants(source: str) -> DescendantsResult:
    """The versions of all models that came from `kfp-run:ID`, `data:MD5`, `commit:SHA`, `image:NAME`, `pipeline:…`."""
    kind, _, value = source.partition(":")
    if kind not in _BACK or not value or "'" in value:
        raise UsageError(f"{source!r} names no source", "the address", f"write one of {', '.join(_BACK)}, then :VALUE")
    with tracking.service() as client:
        found = client.search_model_versions(f"tags.`{_BACK[kind]}` = '{value}'")
        names = sorted(f"models:/{version.name}/{version.version}" for version in found)
    return DescendantsResult(source=source, versions=tuple(names))


def _weights(version: Any, scratch: Path) -> Link:
    """Every file's SHA-256 against the index, the index against the tag."""
    known = version.tags.get(models.DIGEST, "")
    try:
        loaded = ensemble_files.load(models.fetch(f"models:/{version.name}/{version.version}", scratch / "model"))
    except DataError as error:
        return Link(what="weights", value=known, state="FAULT", note=str(error))
    if loaded.digest != known:  # `fetch` lets a version without the tag pass: other hands may have made it
        return Link(what="weights", value=known, state="FAULT", note=f"their SHA-256 is {loaded.digest}")
    return Link(what="weights", value=known, state="verified", note=f"{len(loaded.members)} folds")


def _evaluation(version: Any, scratch: Path) -> Link:
    known = version.tags.get(models.EVALUATION, "")
    try:
        found = evidence.md5_of(models.run_of(version), version.tags.get(models.CONTRACT, "unknown"), scratch)
    except DataError as error:
        return Link(what="evaluation", value=known, state="FAULT", note=str(error))
    if found != known:
        return Link(what="evaluation", value=known, state="FAULT", note=f"the MD5 of its files is {found}")
    return Link(what="evaluation", value=known, state="verified")


def _data(version: Any, remote: str | None) -> list[Link]:
    """Everything that DVC recorded, byte by byte where a remote is given and has it."""
    tags = sorted((tag, md5) for tag, md5 in version.tags.items() if tag.startswith("mcti.data."))
    return [
        _one_data(f"data {tag.removeprefix('mcti.data.')}", md5, tag == origins.SOURCE, remote) for tag, md5 in tags
    ]


def _one_data(what: str, md5: str, source: bool, remote: str | None) -> Link:
    if what == "data bags":
        note = "a digest of the bags that training read, no file of the remote"
        return Link(what=what, value=md5, state="recorded", note=note)
    if remote is None or not _DVC_MD5.fullmatch(md5):
        return Link(what=what, value=md5, state="recorded", note="" if remote else "not read: no --remote")
    address = pinned.Pinned(remote.rstrip("/"), md5)
    # Sources must be there; results of the steps only where somebody pushed them.
    if not source and not storage.exists(pinned.object_address(remote.rstrip("/"), md5)):
        return Link(what=what, value=md5, state="recorded", note="not in the remote: `dvc push` sends it")
    faults = versions.verify(str(address))
    state: State = "FAULT" if faults else "verified"
    return Link(what=what, value=md5, state=state, note="; ".join(faults[:3]))


_DVC_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def _commit(version: Any) -> Link:
    """A commit is read, never recomputed: whether its code gives these weights, only a new training could tell."""
    known = version.tags.get("mcti.commit", origins.UNKNOWN)
    if known == origins.UNKNOWN:
        return Link(what="commit", value=known, state="unknown")
    if known.endswith(origins.DIRTY):
        files = version.tags.get(origins.CHANGED, "files of the package")
        return Link(what="commit", value=known, state="dirty", note=f"differed from it: {files}")
    here = "known to this checkout" if origins.has_commit(known) else "not known to this checkout"
    return Link(what="commit", value=known, state="recorded", note=here)


def _run(client: Any, version: Any) -> list[Link]:
    """The MLflow run, which must be there; run, pipeline and image of the cluster, where one was at work."""
    try:
        run = client.get_run(models.run_of(version))
        links = [Link(what="MLflow run", value=run.info.run_id, state="recorded", note=str(run.info.status))]
    except MctiError as error:
        links = [Link(what="MLflow run", value=version.tags.get(models.RUN, "none"), state="FAULT", note=str(error))]
    for what, tag in (("KFP run", "mcti.kfp_run"), ("pipeline", "mcti.pipeline"), ("image", "mcti.image")):
        value = version.tags.get(tag, "")
        loose = what == "image" and value and "@sha256:" not in value
        note = "a name, not a digest: it may mean something else today" if loose else ""
        links.append(Link(what=what, value=value or "none", state="recorded" if value else "unknown", note=note))
    return links


def _ledger(client: Any, version: Any) -> Link:
    lines = ledger.read(version.name)
    faults = promotion.findings(client, version.name, lines)
    ours = [line for line in lines if line.version == int(version.version)]
    value = ", ".join(f"line {line.number} {line.action}" for line in ours) or "no line"
    state: State = "FAULT" if faults else "verified" if lines else "unknown"  # no line: nothing was recomputed
    return Link(what="ledger", value=value, state=state, note="; ".join(faults))
