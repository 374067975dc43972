"""The release dossier on a real registry: the data of the run, every gap, and no script."""

import json
import re
from importlib import metadata

import pandas as pd
import pytest

from mcti.errors import DataError, UsageError
from mcti.params import PromoteParams, RegisterParams
from mcti.registry.sbom import licence as sbom_licence
from mcti.steps.dossier import dossier
from mcti.steps.ledger import show_ledger
from mcti.steps.promote.step import promote
from mcti.steps.register import register
from tests.registry.factories import Run

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LAX = PromoteParams(
    min_events=2, bootstrap=100, margin=-1.0, alpha=0.4, ibs_margin=1, calibration_margin=1, group_margin=1,
    max_latency_ratio=100, benchmark_patches=5,
)  # fmt: skip
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def document(tmp_path_factory, running):
    """Two versions, the second promoted; its dossier with explanations, as HTML and as a tree."""
    from pathlib import Path

    from mcti.local import settings

    settings.activate(Path(running.folder).parent, force=True)
    out = tmp_path_factory.mktemp("dossier")
    for seed in (0, 1):
        run = Run(out / f"run {seed}", seed=seed, patients=40)
        (run.evaluation / "figures").mkdir()
        svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="4"/></svg>'
        (run.evaluation / "figures" / "forest.svg").write_text(svg)
        params = RegisterParams(name="dossier", experiment="dossier", intended_use=HOSTILE)
        register(run.models, run.evaluation, run.validation, params, out / "r.json")
        promote("dossier", LAX)
    pd.DataFrame({"patient_id": ["P-001"], "genes": [0.25]}).to_csv(out / "contributions.csv", index=False)
    result = dossier("models:/dossier@champion", out / "dossier.html", explanations=out)
    return result, (out / "dossier.html").read_text("utf-8"), json.loads((out / "dossier.json").read_text("utf-8"))


def section(tree, key):
    return next(part for part in tree["sections"] if part["key"] == key)


def test_the_page_is_self_contained_and_user_input_is_escaped(document):
    _, page, _ = document
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "ages are &lt;b&gt;numbers" in page
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert "data:image/svg+xml;base64," in page


def test_the_change_against_the_last_champion_is_that_of_the_ledger(document):
    _, _, tree = document
    entry = show_ledger("dossier").entries[-1]
    gates, history = section(tree, "changes")["tables"]
    assert [row[:2] for row in gates["rows"]] == [[g["name"], g["verdict"]] for g in entry.evidence["gates"]]
    assert [row[0] for row in history["rows"]] == ["1", "2"]
    assert any(entry.hash in row for row in section(tree, "lineage")["tables"][0]["rows"])


def test_missing_information_is_a_gap_and_counted(document):
    result, page, tree = document
    gaps = section(tree, "use")["gaps"]
    assert any("register.contact" in gap for gap in gaps)
    assert not any("register.intended_use" in gap for gap in gaps)
    assert result.gaps == sum(len(part["gaps"]) for part in tree["sections"])
    assert page.count('class="gap"') == sum(bool(part["gaps"]) for part in tree["sections"])
    states = {(a["document"], a["point"], a["section"]): a["state"] for a in tree["answers"]}
    assert states["EU AI Act, Annex IV", "8", ""] == "gap"
    assert states["EU AI Act, Annex IV", "6", "changes"] == "answered"
    assert states["TRIPOD+AI", "20", "data"] == "partly"
    assert states["21 CFR Part 11", "11.50", "signatures"] == "gap"
    assert states["FDA change control plan", "protocol", "pccp"] == "partly"
    assert (result.answered, result.partly, result.open) == tuple(
        list(states.values()).count(state) for state in ("answered", "partly", "gap")
    )


def test_the_change_plan_has_the_settings_of_the_decision(document):
    _, page, tree = document
    _, protocol, limits = section(tree, "pccp")["tables"]
    assert {row[0]: row[1] for row in limits["rows"]}["promote.max_latency_ratio"] == "100"
    assert "above -1, at the level" in {row[0]: row[1] for row in protocol["rows"]}["superiority"]
    assert "Predetermined change control plan" in page


def test_patient_ids_are_not_in_the_dossier(document):
    _, page, tree = document
    assert section(tree, "explanations")["tables"][0]["rows"][0][1] == "0.25"
    assert section(tree, "data")["tables"][1]["rows"] == [
        ["ingest", "no follow-up", "2"],
        ["split", "no features of a slide", "3"],
    ]
    for name in ("P-001", "X-1"):
        assert name not in page
        assert name not in json.dumps(tree)


def test_the_counts_are_those_of_the_evaluated_patients_and_the_search_is_stated(document):
    """The run of tests/registry/factories.py: 40 evaluated patients; the data contract counts the cohort."""
    _, page, tree = document
    counts = dict(section(tree, "data")["tables"][0]["rows"])
    assert counts["patients evaluated"] == "40"
    assert counts["median follow-up, months (reverse Kaplan-Meier)"] == "not reached"
    assert "The search used 4 evaluated patients." in section(tree, "methods")["paragraphs"]
    assert "Poor calibration: synthetic data." in section(tree, "limits")["paragraphs"]
    assert "settings are searched on inner folds" not in page


def test_the_bill_of_materials_is_cyclonedx_with_versions_and_licences(document):
    _, _, tree = document
    sbom = tree["sbom"]
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
    parts = {part["name"]: part for part in sbom["components"]}
    assert parts["numpy"]["version"] == metadata.version("numpy")
    assert sbom_licence(parts["scikit-survival"]).startswith("GPL")
    assert len({part["bom-ref"] for part in sbom["components"]}) == len(sbom["components"])


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("dossier", UsageError, "is not the address of a version"),
        ("models:/dossier", UsageError, "is not the address of a version"),
        ("models:/dossier@unknown", DataError, "no version has the alias unknown"),
        ("models:/dossier/99", DataError, "no version 99.*known: 1, 2"),
    ],
)
def test_an_invalid_address_is_one_error_and_writes_nothing(document, tmp_path, uri, error, message):
    with pytest.raises(error, match=message):
        dossier(uri, tmp_path / "d.html")
    assert list(tmp_path.iterdir()) == []
