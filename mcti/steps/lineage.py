"""lineage: the run, pipeline, image, commit and data of a model version, and the reverse search."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mcti import pinned, storage, versions
from mcti.errors import DataError, MctiError, UsageError
from mcti.registry import (
    approvals,
    electronic_signatures,
    ensemble_files,
    evidence,
    ledger,
    models,
    promotion,
    recalibrated_versions,
    tracking,
    transfer_origin,
)
from mcti.registry import lineage as origins
from mcti.registry.electronic_signatures import UnreadableSignature
from mcti.steps.result import StepResult

State = Literal["verified", "recorded", "dirty", "unknown", "FAULT"]
_TAGS = {"kfp-run": "mcti.kfp_run", "pipeline": "mcti.pipeline", "image": "mcti.image", "commit": "mcti.commit"}
_DATA_TAGS = ("mcti.folds", recalibrated_versions.COHORT_MD5)  # besides those that begin with `_DATA`
_DATA = "mcti.data."
_PRIOR = f"{_DATA}{transfer_origin.DATA_PREFIX}prior"

_EARLIER = "was recorded by an earlier version of mcti"


class Link(BaseModel):
    """One link of the chain: `verified`: recomputed; `recorded`: read only; `dirty`: code that is in no commit."""

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
        """Human-readable output: one line per link."""
        width = max(len(link.what) for link in self.links)
        rows = [f"{x.what:<{width}}  {x.state:<8}  {x.value}{f'  ({x.note})' if x.note else ''}" for x in self.links]
        return [f"{self.name} version {self.version}", *rows]


class DescendantsResult(StepResult):
    """The versions that were made from one run, pipeline, image, commit or data version."""

    source: str
    versions: tuple[str, ...]


def lineage(address: str, remote: str | None = None) -> LineageResult:
    """The chain of a model version; every hash that can be recomputed is verified.

    address models:/NAME@ALIAS or models:/NAME/NUMBER
    remote  DVC's remote, s3://bucket/prefix: source data, cohort and features are read completely and compared with
            their MD5s; None: they are not read

    Raises
    DataError with every link that is broken.
    OperationalError when the registry or S3 is unavailable.
    """
    models.parse_address(address)
    with tracking.service() as client, tempfile.TemporaryDirectory(prefix="mcti-lineage-") as scratch:
        version = models.version_at(client, address)
        links = [
            *_weights(client, version, Path(scratch)),
            _evaluation(version, Path(scratch)),
            *_data(version, remote),
            _commit(version),
            *_run(client, version),
            *_approvals(version),
            _ledger(client, version),
        ]
    result = LineageResult(name=version.name, version=int(version.version), links=tuple(links))
    broken = [link for link in links if link.state == "FAULT"]
    if broken:
        altered = any(_EARLIER not in link.note for link in broken)
        hint = ("restore the altered files from a backup, or " if altered else "") + "register the model again"
        what = "; ".join(f"{link.what}: {link.note}" for link in broken)
        raise DataError(what, f"{version.name} version {version.version}", hint)
    return result


def descendants(source: str) -> DescendantsResult:
    """The versions of all models made from `kfp-run:ID`, `data:DIGEST`, `commit:SHA`, `image:NAME`, `pipeline:…`.

    DIGEST is the MD5 of any data of a version: source tables, cohort, features, bags, a source or the prior of a
    transfer, or the cohort of a recalibration (a folder with or without `.dir`); or the SHA-256 of the folds.

    Raises UsageError for any other text.
    """
    source_type, _, value = source.partition(":")
    if source_type not in ("data", *_TAGS) or not value or "'" in value:
        hint = f"write one of data, {', '.join(_TAGS)}, then :VALUE"
        raise UsageError(f"{source!r} is not a source", "the address", hint)
    with tracking.service() as client:
        if source_type == "data":  # MLflow cannot search for a value under several tags
            registered = [one for one in client.search_model_versions("") if _has_data(one.tags, value)]
        else:
            registered = client.search_model_versions(f"tags.`{_TAGS[source_type]}` = '{value}'")
        names = sorted(f"models:/{version.name}/{version.version}" for version in registered)
    return DescendantsResult(source=source, versions=tuple(names))


def _has_data(tags: Mapping[str, str], digest: str) -> bool:
    """Whether one of the data of a version has this digest; of a prior, the tag has the first 32 digits."""
    known = {known.removesuffix(".dir") for tag, known in tags.items() if tag in _DATA_TAGS or tag.startswith(_DATA)}
    return digest.removesuffix(".dir") in known or (len(digest) == 64 and tags.get(_PRIOR) == digest[:32])


def _weights(client: Any, version: Any, scratch: Path) -> list[Link]:
    """Compare the SHA-256 of every file with the index, and that of the index with the tag; then what they record."""
    known = version.tags.get(models.DIGEST, "")
    try:
        folder = models.fetch(f"models:/{version.name}/{version.version}", scratch / "model")
        _, members = ensemble_files.verified_index(folder)
    except DataError as error:
        return [Link(what="weights", value=known, state="FAULT", note=str(error))]
    weights = Link(what="weights", value=known, state="verified", note=f"{len(members)} folds")
    spec = storage.read_json(min(members) / "model.json")
    return [weights, *_transfer(client, transfer_origin.transfer_of(spec))]


def _transfer(client: Any, transfer: Mapping[str, Any]) -> list[Link]:
    """The sources and the prior of the training; the digest of the prior is compared with that of its version."""
    links = [
        Link(
            what=f"source {source.get('name', 'cohort')}",
            value=source["digest"],
            state="recorded",
            note=transfer_origin.describe_source(source),
        )
        for source in transfer.get("sources", ())
    ]
    prior = transfer.get("prior")
    return links if prior is None else [*links, _prior(client, prior)]


def _prior(client: Any, prior: Mapping[str, str]) -> Link:
    name, number, digest = prior["name"], prior["version"], prior["digest"]
    try:
        actual = models.version_by_number(client, name, int(number)).tags.get(models.DIGEST)
    except DataError:
        note = f"{name} version {number}, which is no longer in the registry"
        return Link(what="prior", value=digest, state="recorded", note=note)
    state: State = "verified" if actual == digest else "FAULT"
    note = f"{name} version {number}" + ("" if actual == digest else f" has the digest {actual}")
    return Link(what="prior", value=digest, state=state, note=note)


def _evaluation(version: Any, scratch: Path) -> Link:
    """Compare the MD5 of the files that the gates read with the tag."""
    known, contract = version.tags.get(models.EVALUATION, ""), version.tags.get(models.CONTRACT, "unknown")
    try:
        run_id = models.run_of(version)
        actual = evidence.md5_of(run_id, contract, scratch)
        without = [] if actual == known else evidence.not_hashed(run_id, contract, known, scratch)
    except DataError as error:
        return Link(what="evaluation", value=known, state="FAULT", note=str(error))
    if without:
        note = f"its MD5 {_EARLIER} and does not include {' and '.join(without)}"
        return Link(what="evaluation", value=known, state="FAULT", note=note)
    if actual != known:
        return Link(what="evaluation", value=known, state="FAULT", note=f"the MD5 of its files is {actual}")
    return Link(what="evaluation", value=known, state="verified")


def _data(version: Any, remote: str | None) -> list[Link]:
    """All data that DVC recorded; verified byte by byte where a remote is set and contains it."""
    transferred = f"{_DATA}{transfer_origin.DATA_PREFIX}"  # listed as sources and prior
    tags = sorted(
        (tag, md5) for tag, md5 in version.tags.items() if tag.startswith(_DATA) and not tag.startswith(transferred)
    )
    return [_one_data(f"data {tag.removeprefix(_DATA)}", md5, tag == origins.SOURCE, remote) for tag, md5 in tags]


def _one_data(name: str, md5: str, source: bool, remote: str | None) -> Link:
    if name == "data bags":
        note = "a digest of the bags that the training read, not a file of the remote"
        return Link(what=name, value=md5, state="recorded", note=note)
    if remote is None or not _DVC_MD5.fullmatch(md5):
        return Link(what=name, value=md5, state="recorded", note="" if remote else "not read: no --remote")
    address = pinned.Pinned(remote.rstrip("/"), md5)
    # Source data must exist in the remote; results of steps only where they were pushed.
    if not source and not storage.exists(pinned.object_address(remote.rstrip("/"), md5)):
        return Link(what=name, value=md5, state="recorded", note="not in the remote: run `dvc push`")
    faults = versions.verify(str(address))
    state: State = "FAULT" if faults else "verified"
    return Link(what=name, value=md5, state=state, note="; ".join(faults[:3]))


_DVC_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def _commit(version: Any) -> Link:
    """A commit is read, not verified: that would require a new training."""
    known = version.tags.get("mcti.commit", origins.UNKNOWN)
    if known == origins.UNKNOWN:
        return Link(what="commit", value=known, state="unknown")
    if known.endswith(origins.DIRTY):
        files = version.tags.get(origins.CHANGED, "files of the package")
        return Link(what="commit", value=known, state="dirty", note=f"these files differed: {files}")
    note = "in this checkout" if origins.has_commit(known) else "not in this checkout"
    return Link(what="commit", value=known, state="recorded", note=note)


def _run(client: Any, version: Any) -> list[Link]:
    """The MLflow run, which must exist; run, pipeline and image of the cluster, if the model was trained there."""
    try:
        run = client.get_run(models.run_of(version))
        links = [Link(what="MLflow run", value=run.info.run_id, state="recorded", note=str(run.info.status))]
    except MctiError as error:
        links = [Link(what="MLflow run", value=version.tags.get(models.RUN, "none"), state="FAULT", note=str(error))]
    for name, tag in (("KFP run", "mcti.kfp_run"), ("pipeline", "mcti.pipeline"), ("image", "mcti.image")):
        value = version.tags.get(tag, "")
        unpinned = name == "image" and value and "@sha256:" not in value
        note = "a name without a digest: it may refer to another image now" if unpinned else ""
        links.append(Link(what=name, value=value or "none", state="recorded" if value else "unknown", note=note))
    return links


def _approvals(version: Any) -> list[Link]:
    """The approvals of the current weights and evaluation, and every electronic signature that was altered."""
    address, digest = f"models:/{version.name}/{version.version}", version.tags.get(models.DIGEST, "")
    links, counted = [], approvals.signatures(version)
    for one in electronic_signatures.read(version.tags):
        if isinstance(one, UnreadableSignature):
            links.append(Link(what="approval", value=one.tag, state="FAULT", note=one.reason))
        elif fault := one.fault(address, digest):
            links.append(Link(what="approval", value=one.who, state="FAULT", note=fault))
        elif one in counted:
            links.append(Link(what="approval", value=one.who, state="verified", note=one.describe()))
    signed, note = {one.who for one in counted}, "without an electronic signature"
    named = [who for who in approvals.approvers(version) if who not in signed]
    return links + [Link(what="approval", value=who, state="recorded", note=note) for who in named]


def _ledger(client: Any, version: Any) -> Link:
    entries = ledger.read(version.name)
    faults = promotion.find_faults(client, version.name, entries)
    decisions = [entry for entry in entries if entry.version == int(version.version)]
    value = ", ".join(f"entry {entry.number} {entry.action}" for entry in decisions) or "no entry"
    state: State = "FAULT" if faults else "verified" if entries else "unknown"  # no entry: nothing to verify
    return Link(what="ledger", value=value, state=state, note="; ".join(faults))
