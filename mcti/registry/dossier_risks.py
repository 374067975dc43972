"""The risk table of the release dossier, in the order of ISO 14971: hazard, control measures, verification, residual.

The risks are those of docs/security.md (risks.json, written by `make docs`). Severity and probability of harm, and the
acceptance of the residual risk, are decisions of persons: they are gaps.
"""

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

from mcti.registry.dossier_document import DossierSource, Section, Table

FILE = "risks.json"
_GAPS = (
    "severity and probability of harm of each risk, and the criteria for its acceptance",
    "acceptance of each residual risk, and of the overall residual risk, by the responsible person",
    "clinical hazards: a wrong, missing or misread risk of a patient, and use outside the intended use",
    "production and post-production information (complaints, incidents)",
)


def known() -> list[dict[str, Any]]:
    """The risks: {hazard, situation, controls: [{measure, tests}], kinds, residual}."""
    risks: list[dict[str, Any]] = json.loads(
        resources.files("mcti.registry").joinpath(FILE).read_text(encoding="utf-8")
    )
    return risks


def risks(source: DossierSource) -> Section:  # noqa: ARG001  (the risks are those of the software, not of the version)
    """Security risks of the software, their controls, and the tests that verify them."""
    known_risks = known()
    tests = len({test for risk in known_risks for control in risk["controls"] for test in control["tests"]})
    return Section(
        key="risks",
        title="Risk table (ISO 14971)",
        paragraphs=(
            f"Security risks from the threat analysis of the software (docs/security.md): {len(known_risks)} hazards; "
            f"{tests} tests fail when a control is removed. It is a part of a risk management file, not the file.",
        ),
        tables=(_hazards(known_risks), _controls(known_risks)),
        gaps=_GAPS,
    )


def _hazards(known_risks: Sequence[dict[str, Any]]) -> Table:
    rows = tuple((risk["hazard"], risk["situation"], risk["residual"] or "none named") for risk in known_risks)
    return Table(title="hazards", headers=("hazard", "hazardous situation", "residual risk"), rows=rows)


def _controls(known_risks: Sequence[dict[str, Any]]) -> Table:
    headers = ("hazard", "control measure", "verified by")
    rows = tuple(row for risk in known_risks for row in _rows(risk))
    return Table(title="control measures and their verification", headers=headers, rows=rows)


def _rows(risk: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for control in risk["controls"]:
        yield risk["hazard"], control["measure"], ", ".join(control["tests"])
    if risk["kinds"]:
        measure = f"{risk['kinds']} kinds of tampering are found by mcti verify"
        yield risk["hazard"], measure, "tests/registry/trust/test_verification.py::test_tampering_is_found"
