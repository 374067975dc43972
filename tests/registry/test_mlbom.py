"""The bill of materials of a model against the schema of CycloneDX 1.6 and the card that it states."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema.validators import Draft7Validator
from rfc3986_validator import validate_rfc3986

from mcti.params import RegisterParams
from mcti.registry import card, ensemble_files, mlbom
from mcti.registry.evidence import Evidence
from mcti.registry.trust import model_signature
from tests.registry.factories import Run


@pytest.fixture(autouse=True)
def references(monkeypatch):
    """Addresses are checked as URI references, which is stricter than the schema's IRI references.

    The package by which jsonschema checks IRI references is not installed (`make lock`).
    """
    check = (lambda value: bool(validate_rfc3986(value, rule="URI_reference")), ())
    monkeypatch.setitem(Draft7Validator.FORMAT_CHECKER.checkers, "iri-reference", check)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("a run")
    run = Run(root)
    ensemble_files.assemble(run.models, root / "ensemble")
    return Evidence.read(run.models, run.evaluation, run.validation), model_signature.file_hashes(root / "ensemble")


def document(run, encoder_licence="Apache-2.0", source="", data=None, **params):
    evidence, files = run
    lineage = {"digest": "d" * 64, "commit": "c" * 40, "image": "none", "folds": evidence.folds_sha256}
    lineage["data"] = {"data/cohort": "1" * 32 + ".dir", "data/folds.csv": "2" * 32} if data is None else data
    built = card.build(evidence, RegisterParams(name="lung-os", **params), lineage, encoder_licence)
    return built, mlbom.build(built, files, source)


def faults(tree):
    """Oracle: the schema of CycloneDX 1.6 in cyclonedx-python-lib, without a network."""
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(tree))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"intended_use": "research", "data_licence": "CC-BY-4.0", "contact": "rita@example.org"},
        {"data_licence": "by agreement with the hospital", "encoder_licence": ""},
        {"source": "3" * 32 + ".dir"},
        {"data": {"bags": "4" * 32}},
        {"data": {"a name with spaces/ü": "4" * 32}},
    ],
)
def test_the_document_satisfies_the_schema(run, options):
    assert faults(document(run, **options)[1]) is None


def test_the_schema_finds_a_fault(run):
    tree = document(run)[1]
    tree["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"][0]["typo"] = 1
    assert faults(tree) is not None


def test_the_schema_finds_an_address_that_is_none(run):
    tree = document(run)[1]
    tree["externalReferences"] = [{"type": "website", "url": "https://example.org/model"}]
    assert faults(tree) is None
    tree["externalReferences"][0]["url"] = "https://example.org/<a model>"
    assert faults(tree) is not None


def test_it_states_data_encoder_licences_and_metrics_of_the_card(run):
    _, tree = document(run, source="3" * 32 + ".dir", data_licence="CC-BY-4.0", intended_use="research")
    parts = {part["name"]: part for part in tree["components"]}
    md5s = {name: part["hashes"] for name, part in parts.items() if part["type"] == "data"}
    assert md5s == {
        name: [{"alg": "MD5", "content": digit * 32}]
        for name, digit in (("data/cohort", "1"), ("data/folds.csv", "2"), ("source", "3"))
    }
    assert parts["data/cohort"]["licenses"] == [{"license": {"id": "CC-BY-4.0"}}]
    assert parts["hed44"]["hashes"] == [{"alg": "SHA-256", "content": "9" * 64}]
    assert parts["hed44"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert parts["mcti"]["pedigree"] == {"commits": [{"uid": "c" * 40}]}
    model = tree["metadata"]["component"]
    shown = model["modelCard"]
    assert shown["considerations"]["useCases"] == ["research"]
    assert [x["ref"] for x in shown["modelParameters"]["datasets"]] == [
        parts[name]["bom-ref"] for name in ("data/cohort", "data/folds.csv", "source")
    ]
    metric = shown["quantitativeAnalysis"]["performanceMetrics"][0]
    assert metric["value"] == "0.5"
    assert metric["confidenceInterval"] == {"lowerBound": "0.4", "upperBound": "0.6"}
    assert len(model["components"]) == 7
    assert {"name": "mcti:gap", "value": "contact"} in shown["properties"]
    assert tree["dependencies"] == [{"ref": model["bom-ref"], "dependsOn": [p["bom-ref"] for p in tree["components"]]}]


def test_it_contains_no_patient(run):
    text = json.dumps(document(run)[1])
    assert "P-0" not in text
    assert "X-1" not in text


def test_a_missing_licence_is_a_gap_and_not_a_licence(run):
    tree = document(run, encoder_licence="")[1]
    encoder = next(part for part in tree["components"] if part["name"] == "hed44")
    assert "licenses" not in encoder
    gaps = [x["value"] for x in tree["metadata"]["component"]["modelCard"]["properties"] if x["name"] == "mcti:gap"]
    assert {"licences.encoder", "licences.data", "intended_use"} <= set(gaps)
