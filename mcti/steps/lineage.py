"""lineage: from a model version to the run, pipeline, image, commit and data it came from, and back."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mcti import pinned, versions
from mcti.errors import DataError, MctiError, UsageError
from mcti.registry import ensemble, evidence, ledger, models, promotion, tracking
from mcti.registry import lineage as origins
from mcti.steps.result import StepResult

State = Literal["verified", "recorded", "unknown", "FAULT"]
_BACK = {"kfp-run": "mcti.kfp_run", "pipeline": "mcti.pipeline", "image": "mcti.image", "commit": "mcti.commit"} | {
    "data": origins.SOURCE
}


class Link(BaseModel):
    """One link of the chain: `verified` was recomputed or looked up now, `recorded` can only be read."""

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
    remote  DVC's remote, s3://bucket/prefix: the sources are read whole and held against their MD5s; None: they are not
    Raises  DataError naming every link that is broken; EnvironmentTrouble when the registry or S3 is in the way
    """
    models.parts(address)  # before anything is asked for
    with tracking.service() as client, tempfile.TemporaryDirectory(prefix="mcti-lineage-") as scratch:
        version = models.named(client, address)
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
        mend = "restore what was altered from its backup, or register the model anew"
        raise DataError("; ".join(broken), f"{version.name} version {version.version}", mend)
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
        loaded = ensemble.load(models.fetch(f"models:/{version.name}/{version.version}", scratch / "model"))
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
    """The sources, byte by byte where a remote is given; the MD5s that DVC or training recorded of the rest."""
    links = []
    for tag, md5 in sorted(version.tags.items()):
        if not tag.startswith("mcti.data."):
            continue
        what = f"data {tag.removeprefix('mcti.data.')}"
        if tag != origins.SOURCE or remote is None:
            links.append(Link(what=what, value=md5, state="recorded"))
            continue
        faults = versions.verify(str(pinned.Pinned(remote.rstrip("/"), md5)))
        state: State = "FAULT" if faults else "verified"
        links.append(Link(what=what, value=md5, state=state, note="; ".join(faults[:3])))
    return links


def _commit(version: Any) -> Link:
    known = version.tags.get("mcti.commit", origins.UNKNOWN)
    if known == origins.UNKNOWN:
        return Link(what="commit", value=known, state="unknown")
    if known.endswith("-dirty"):
        return Link(what="commit", value=known, state="recorded", note="files of the package differed from it")
    state: State = "verified" if origins.has_commit(known) else "recorded"
    return Link(what="commit", value=known, state=state)


def _run(client: Any, version: Any) -> list[Link]:
    """The MLflow run, looked up; run, pipeline and image of the cluster, where one was at work."""
    try:
        run = client.get_run(models.run_of(version))
        links = [Link(what="MLflow run", value=run.info.run_id, state="verified", note=str(run.info.status))]
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
    state: State = "FAULT" if faults else "verified"
    return Link(what="ledger", value=value, state=state, note="; ".join(faults))
