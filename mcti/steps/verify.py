"""verify and bundle: what is signed about a version, and the version in one file for a site without a network."""

import tempfile
from pathlib import Path

from mcti.errors import DataError, Untrusted
from mcti.params import TrustParams
from mcti.registry import ledger_anchors, models, tracking
from mcti.registry.ledger_anchors import Anchor
from mcti.registry.trust import bundle as bundles
from mcti.registry.trust import trust_file, verification
from mcti.registry.trust.bundle import Bundle
from mcti.registry.trust.material import Material, RegisteredVersion
from mcti.registry.trust.trust_file import TrustFile
from mcti.registry.trust.verification import Check, State
from mcti.steps.result import StepResult

_EXIT_CODES: tuple[tuple[State, int], ...] = (
    ("broken", DataError.exit_code),
    ("unknown", Untrusted.exit_code),
    ("unsigned", Untrusted.exit_code),
)


class VerifyResult(StepResult):
    """All checks of a version. exit_code: 0 when all are verified, 3 when one is broken, otherwise 12."""

    name: str
    version: int
    checks: tuple[Check, ...]
    exit_code: int

    def lines(self) -> list[str]:
        """Human-readable output: one line per check, then the number of checks in each state."""
        width = max(len(check.subject) for check in self.checks)
        rows = [_row(check, width) for check in self.checks]
        states = [check.state for check in self.checks]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return [f"{self.name} version {self.version}", *rows, counts]


class BundleResult(StepResult):
    """The bundle of a version: its files."""

    name: str
    version: int
    files: tuple[str, ...]


def verify(address: str, params: TrustParams, *, offline: str | None = None, anchor: str | None = None) -> VerifyResult:
    """Verify the files, signatures, lineage, gate decision and ledger of a version.

    offline  a bundle: it is read instead of the registry, and no service is called
    anchor   a printed anchor of the ledger to compare

    Raises
    UsageError when the address is none of a version, or the text is not an anchor.
    DataError when there is no such version, the trust file is invalid, or the bundle is of another version.
    OperationalError when the registry or S3 is unavailable.
    """
    alias = models.parse_address(address)[1]
    trust, printed = trust_file.load(params.keys), ledger_anchors.parse(anchor) if anchor else None
    with tempfile.TemporaryDirectory(prefix="mcti-verify-") as scratch:
        if offline is not None:
            material = Bundle(Path(offline), Path(scratch))
            _check_address(address, material)
            return _result(material, _checks(material, trust, printed))
        with tracking.service() as client:
            version = models.unconfirmed_version_at(client, address)
            registered = RegisteredVersion(client, version, Path(scratch), alias=alias)
            return _result(registered, _checks(registered, trust, printed))


def bundle(address: str, out: Path) -> BundleResult:
    """Write a version with everything that is signed about it into one file.

    Raises
    DataError when there is no such version.
    OperationalError when the registry or S3 is unavailable.
    """
    models.parse_address(address)
    with tracking.service() as client, tempfile.TemporaryDirectory(prefix="mcti-bundle-") as scratch:
        material = RegisteredVersion(client, models.version_at(client, address), Path(scratch))
        files = bundles.write(material, out)
    return BundleResult(name=material.name, version=material.number, files=tuple(files))


def _check_address(address: str, material: Bundle) -> None:
    """A bundle has no aliases; that the version was the champion follows from its gate decision."""
    name, _, number = models.parse_address(address)
    if name != material.name or (number and int(number) != material.number):
        raise DataError(f"the bundle is of {material.address}", address, "name the version of the bundle")


def _checks(material: Material, trust: TrustFile, anchor: Anchor | None) -> list[Check]:
    compared = [] if anchor is None else [verification.check_anchor(material, anchor)]
    return verification.check_all(material, trust) + compared


def _result(material: Material, checks: list[Check]) -> VerifyResult:
    states = {check.state for check in checks}
    code = next((code for state, code in _EXIT_CODES if state in states), 0)
    return VerifyResult(name=material.name, version=material.number, checks=tuple(checks), exit_code=code)


def _row(check: Check, width: int) -> str:
    signer = f"  by {check.signer}" if check.signer and check.state == "verified" else ""
    return f"{check.subject:<{width}}  {check.state:<8}{signer}{f'  ({check.note})' if check.note else ''}".rstrip()
