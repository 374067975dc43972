"""The risk table of the release dossier, in the order of ISO 14971: hazard, control measures, verification, residual.

The risks are those of docs/security.md (risks.json, written by `make docs`). Severity and probability of harm, and the
acceptance of the residual risk, are decisions of persons: they are gaps.
"""

import json
from collections.abc import Iterator
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
    headers = ("hazard", "hazardous situation", "control measure", "verified by", "residual risk")
    return Section(
        key="risks",
        title="Risk table (ISO 14971)",
        paragraphs=(
            f"Security risks from the threat analysis of the software (docs/security.md): {len(known_risks)} hazards; "
            f"{tests} tests fail when a control is removed. It is a part of a risk management file, not the file.",
        ),
        tables=(Table(headers=headers, rows=tuple(row for risk in known_risks for row in _rows(risk))),),
        gaps=_GAPS,
    )


def _rows(risk: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row per control; only the first one repeats hazard, situation and residual risk."""
    residual = risk["residual"] or "none named"
    for number, control in enumerate(risk["controls"]):
        tests = ", ".join(control["tests"])
        if number == 0:
            yield risk["hazard"], risk["situation"], control["measure"], tests, residual
        else:
            yield risk["hazard"], "as above", control["measure"], tests, "as above"
    if risk["kinds"]:
        tests = "tests/registry/trust/test_verification.py::test_tampering_is_found"
        measure = f"{risk['kinds']} kinds of tampering are found by mcti verify"
        yield risk["hazard"], "as above", measure, tests, "as above"
