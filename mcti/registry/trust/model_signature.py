"""The signature of a model: the SHA-256 of every file below its folder, in the format of OpenSSF Model Signing v1.0.

The statement also has the address of the version and the time; that format lets a verifier ignore them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mcti.registry.trust.envelope import InvalidDocument, payload_of

PREDICATE = "https://model_signing/signature/v1.0"
_SERIALIZATION = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path relative to it, in the order of the format.

    Raises InvalidDocument when a link is below the folder.
    """
    paths = sorted(folder.rglob("*"), key=lambda path: PurePosixPath(path.relative_to(folder).as_posix()))
    linked = next((path for path in paths if path.is_symlink()), None)
    if linked is not None:
        raise InvalidDocument(f"{linked.relative_to(folder)} is a symbolic link")
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths if path.is_file()}


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def payload(files: Mapping[str, str], name: str, address: str, time: str) -> bytes:
    """The statement to sign.

    files  of `file_hashes`;  name  of the model;  address  models:/NAME/NUMBER;  time  RFC 3339
    """
    resources = [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in files.items()]
    subject = [{"name": name, "digest": {"sha256": _root(list(files.values()))}}]
    predicate = {"serialization": _SERIALIZATION, "resources": resources, "signed_at": time, "address": address}
    return payload_of(subject, PREDICATE, predicate)


def differences(statement: Mapping[str, Any], files: Mapping[str, str], address: str) -> list[str]:
    """What differs between a statement and a model: one sentence each; empty when they agree.

    Raises InvalidDocument when it is no statement of this format.
    """
    signed = _signed_files(statement)
    stated = statement["predicate"].get("address", address)
    faults = [] if stated == address else [f"the signature is of {stated}"]
    faults += [f"{path} is missing" for path in sorted(signed.keys() - files.keys())]
    faults += [f"{path} is not signed" for path in sorted(files.keys() - signed.keys())]
    both = sorted(signed.keys() & files.keys())
    return faults + [f"{path} was altered" for path in both if signed[path] != files[path]]


def _signed_files(statement: Mapping[str, Any]) -> dict[str, str]:
    if statement["predicateType"] != PREDICATE:
        raise InvalidDocument(f"the statement has the type {statement['predicateType']!r}, not {PREDICATE}")
    try:
        serialization, resources = statement["predicate"]["serialization"], statement["predicate"]["resources"]
        if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
            raise InvalidDocument("only signatures over the SHA-256 of whole files can be verified")
        digests = [str(resource["digest"]) for resource in resources]
        signed = {str(resource["name"]): digest for resource, digest in zip(resources, digests, strict=True)}
        subjects = [subject["digest"]["sha256"] for subject in statement["subject"]]
        root = _root(digests)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidDocument(f"not a statement of OpenSSF Model Signing ({error})") from error
    if subjects != [root] or len(signed) != len(digests):
        raise InvalidDocument("the listed files do not have the SHA-256 of the subject")
    return signed


def _root(digests: list[str]) -> str:
    """SHA-256 over the digests of all files, in their order."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()
