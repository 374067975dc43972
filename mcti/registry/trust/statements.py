"""The lineage of a version as in-toto statements: features, folds, training, evaluation, registration, gate decision.

Each step is a SLSA provenance v1 (what was made, from what), the decision a SLSA verification summary v1. A statement
is built from the version alone. To verify one, it is built again and compared: a changed tag, file or hash differs.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mcti
from mcti import storage
from mcti.registry import lineage, models, transfer_origin
from mcti.registry.ledger import LedgerEntry
from mcti.registry.trust.envelope import payload_of

PROVENANCE = "https://slsa.dev/provenance/v1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
STEPS = ("features", "folds", "training", "evaluation", "registration")
GATE = "gate"
_DATA = "mcti.data."
_SIGNED_TAGS = re.compile(
    r"mcti\.(digest|evaluation_md5|contract|run_id|commit|changed|image|folds|encoder|encoder_sha256|target_mpp"
    r"|target_patch_size|tissue|notice|registered_by|registered_user|kfp_run|pipeline|licence\..+|data\..+"
    r"|parent_version|parent_digest|recalibrated_on|recalibrated_on_name)"
)
"""Tags that `mcti register` and a recalibration write. Approvals and external validations are added later."""


@dataclass(frozen=True)
class Facts:
    """What the statements are about.

    address     models:/NAME/NUMBER;  tags  of the version
    files       SHA-256 of the files of the ensemble, by path
    settings    settings of the training
    transfer    sources and prior of the training (transfer_origin.transfer_of)
    evaluation  SHA-256 of the files of the evaluation that the gates read; None: they are not available
    documents   SHA-256 of card and bills of materials
    """

    address: str
    tags: Mapping[str, str]
    files: Mapping[str, str]
    settings: Mapping[str, Any]
    transfer: Mapping[str, Any]
    evaluation: Mapping[str, str] | None
    documents: Mapping[str, str]


def build(step: str, facts: Facts) -> dict[str, Any]:
    """Subject and build definition of a step, as they are signed: {subject, buildDefinition}."""
    subject, parameters, materials = _STEPS[step](facts)
    definition = {
        "buildType": f"urn:mcti:{step}:v1",
        "externalParameters": {"version": facts.address, **parameters},
        "resolvedDependencies": materials,
    }
    return {"subject": subject, "buildDefinition": definition}


def payload(step: str, facts: Facts, time: str) -> bytes:
    """The statement of a step, to sign. time: RFC 3339."""
    built = build(step, facts)
    details = {
        "builder": {"id": f"urn:mcti:{step}", "version": {"mcti": mcti.__version__}},
        "metadata": {"invocationId": facts.tags.get(models.RUN, ""), "finishedOn": time},
    }
    predicate = {"buildDefinition": built["buildDefinition"], "runDetails": details}
    return payload_of(built["subject"], PROVENANCE, predicate)


def differences(step: str, statement: Mapping[str, Any], facts: Facts) -> list[str]:
    """What differs between a signed statement and the version, one sentence each; empty when they agree."""
    if statement["predicateType"] != PROVENANCE:
        return [f"the statement has the type {statement['predicateType']!r}, not {PROVENANCE}"]
    signed = {
        "subject": statement["subject"],
        "buildDefinition": statement["predicate"].get("buildDefinition", {}),
    }
    expected = build(step, facts)
    if step == "evaluation" and facts.evaluation is None:  # its files stay with the registry
        expected["subject"] = signed["subject"]
    return _compare(_flat(signed), _flat(expected))


def gate_payload(entry: LedgerEntry, address: str, evaluation_md5: str, time: str) -> bytes:
    """The statement of a gate decision, to sign: the entry of the ledger that records it. time: RFC 3339."""
    built = build_gate(entry, address, evaluation_md5)
    decided = {"verifier": {"id": "urn:mcti:promote"}, "timeVerified": time}
    return payload_of(built.pop("subject"), SUMMARY, decided | built)


def name_of_gate(number: int) -> str:
    """The name of the signed decision of an entry of the ledger, of its file and in the reports."""
    return f"{GATE}-{number}"


def gate_name(statement: Mapping[str, Any], address: str) -> str:
    """The name of a signed decision about the version at `address`; "" for any other statement."""
    predicate = statement["predicate"]
    if statement["predicateType"] != SUMMARY or predicate.get("resourceUri") != address:
        return ""
    entry = predicate.get("urn:mcti:ledger")
    return name_of_gate(entry.get("number", 0)) if isinstance(entry, Mapping) else ""


def build_gate(entry: LedgerEntry, address: str, evaluation_md5: str) -> dict[str, Any]:
    """Subject and decision as they are signed."""
    policy = hashlib.sha256(storage.to_json(entry.evidence.get("params", {})).encode()).hexdigest()
    promoted = entry.action == "promote"
    return {
        "subject": [{"name": address, "digest": {"sha256": str(entry.evidence.get("digest", ""))}}],
        "resourceUri": address,
        "policy": {"uri": "urn:mcti:promote:params", "digest": {"sha256": policy}},
        "inputAttestations": [{"uri": "urn:mcti:evaluation", "digest": {"md5": evaluation_md5}}],
        "verificationResult": "PASSED" if promoted else "FAILED",
        "verifiedLevels": ["MCTI_GATES"] if promoted else [],
        "urn:mcti:ledger": {"number": entry.number, "sha256": entry.hash, "action": entry.action},
    }


def gate_differences(
    statement: Mapping[str, Any], entry: LedgerEntry, address: str, evaluation_md5: str, digest: str
) -> list[str]:
    """What differs between a signed decision and ledger, version and evaluation; empty when they agree."""
    if statement["predicateType"] != SUMMARY:
        return [f"the statement has the type {statement['predicateType']!r}, not {SUMMARY}"]
    expected = build_gate(entry, address, evaluation_md5)
    signed = {name: statement["predicate"].get(name) for name in expected if name != "subject"}
    faults = _compare(_flat({**signed, "subject": statement["subject"]}), _flat(expected))
    if entry.evidence.get("digest") != digest:
        faults.append("the decision is about other weights")
    if entry.hash != entry.computed_hash():
        faults.append("the entry of the ledger was edited")
    return faults


def signed_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that the statement of the registration covers."""
    return {name: value for name, value in sorted(tags.items()) if _SIGNED_TAGS.fullmatch(name)}


_Parts = tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]


def _features(facts: Facts) -> _Parts:
    """The data that the training read: cohort, features, folds as DVC recorded them, or the digest of the bags."""
    names = ("encoder", "target_mpp", "target_patch_size", "tissue")
    parameters = {name: facts.tags.get(f"mcti.{name}", "") for name in names}
    source = facts.tags.get(lineage.SOURCE, "")
    materials = [_resource("source", _data_digest(source))] if source else []
    weights = facts.tags.get("mcti.encoder_sha256", "")
    if re.fullmatch("[0-9a-f]{64}", weights):
        materials.append(_resource("encoder", {"sha256": weights}))
    return _data(facts), parameters, materials


def _folds(facts: Facts) -> _Parts:
    return [_resource("folds", {"sha256": facts.tags.get("mcti.folds", "")})], {}, _data(facts)


def _training(facts: Facts) -> _Parts:
    commit = facts.tags.get("mcti.commit", "")
    code = _resource("code", {"gitCommit": commit.removesuffix(lineage.DIRTY)})
    parameters = {"settings": dict(facts.settings), "dirty": commit.endswith(lineage.DIRTY)}
    image = {"name": "image", "uri": facts.tags.get("mcti.image", "")}
    materials = [*_data(facts), *_transferred(facts), *_folds(facts)[0], code, image]
    return [_resource(path, {"sha256": digest}) for path, digest in facts.files.items()], parameters, materials


def _evaluation(facts: Facts) -> _Parts:
    subject = [_resource(name, {"sha256": digest}) for name, digest in sorted((facts.evaluation or {}).items())]
    parameters = {
        "contract": facts.tags.get(models.CONTRACT, ""),
        "evaluation_md5": facts.tags.get(models.EVALUATION, ""),
    }
    return subject, parameters, [_model(facts)]


def _registration(facts: Facts) -> _Parts:
    subject = [_resource(name, {"sha256": digest}) for name, digest in sorted(facts.documents.items())]
    evaluation = _resource("evaluation", {"md5": facts.tags.get(models.EVALUATION, "")})
    return subject, {"tags": signed_tags(facts.tags)}, [_model(facts), evaluation]


_STEPS: dict[str, Callable[[Facts], _Parts]] = dict(
    zip(STEPS, (_features, _folds, _training, _evaluation, _registration), strict=True)
)


def _model(facts: Facts) -> dict[str, Any]:
    return _resource("ensemble", {"sha256": facts.tags.get(models.DIGEST, "")})


def _transferred(facts: Facts) -> list[dict[str, Any]]:
    """The cohorts and the registered model that the training learned from besides its own data."""
    sources = [
        _resource(f"source {one.get('name', 'cohort')}", {"md5": one["digest"]})
        for one in facts.transfer.get("sources", ())
    ]
    prior = facts.transfer.get("prior")
    if prior is None:
        return sources
    address = f"models:/{prior['name']}/{prior['version']}"
    return [*sources, {"name": "prior", "uri": address, "digest": {"sha256": prior["digest"]}}]


def _data(facts: Facts) -> list[dict[str, Any]]:
    """The data of the cohort itself; sources and prior are materials of the training."""
    transferred = f"{_DATA}{transfer_origin.DATA_PREFIX}"
    tags = {
        name: value
        for name, value in facts.tags.items()
        if name.startswith(_DATA) and name != lineage.SOURCE and not name.startswith(transferred)
    }
    return [_resource(name.removeprefix(_DATA), _data_digest(value)) for name, value in sorted(tags.items())]


def _data_digest(md5: str) -> dict[str, str]:
    """The MD5 of a file; for a folder that of DVC's list of its files, which ends with `.dir`."""
    return {"dvc_tree_md5": md5.removesuffix(".dir")} if md5.endswith(".dir") else {"md5": md5}


def _resource(name: str, digest: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "digest": digest}


def _compare(signed: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    names = sorted(signed.keys() | actual.keys())
    return [
        f"{name}: signed {_shown(signed.get(name))}, now {_shown(actual.get(name))}"
        for name in names
        if signed.get(name) != actual.get(name)
    ]


def _shown(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path; an entry of a list with a name has its name in the path."""
    if isinstance(tree, Mapping) and tree:
        return {k: v for key, value in tree.items() for k, v in _flat(value, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(tree, list) and tree:
        names = [str(value.get("name", n)) if isinstance(value, Mapping) else str(n) for n, value in enumerate(tree)]
        names = names if len(set(names)) == len(names) else [str(n) for n in range(len(tree))]
        parts = (_flat(value, f"{path}[{name}]") for name, value in zip(names, tree, strict=True))
        return {k: v for part in parts for k, v in part.items()}
    return {path: tree}
