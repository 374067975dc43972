"""The lineage as statements: their formats by another implementation, and what each one is about."""

import dataclasses
import json

import pytest

from mcti.registry.trust import statements
from tests.registry.trust.factories import TIME, Version


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return Version(tmp_path_factory.mktemp("version"))


def statement(version, step):
    return json.loads(statements.payload(step, version.facts, TIME))


@pytest.mark.parametrize("step", statements.STEPS)
def test_each_step_is_a_slsa_provenance(version, step):
    """Oracle: the schema of SLSA provenance v1 in in-toto-attestation 0.9.3, which refuses unknown fields."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance

    tree = statement(version, step)
    assert tree["predicateType"] == "https://slsa.dev/provenance/v1"
    provenance = json_format.ParseDict(tree["predicate"], Provenance())
    assert provenance.build_definition.build_type == f"urn:mcti:{step}:v1"
    assert provenance.run_details.metadata.invocation_id == "f" * 32
    assert provenance.run_details.metadata.finished_on.ToJsonString() == TIME
    assert provenance.build_definition.external_parameters["version"] == "models:/lung-os/3"


def test_the_decision_is_a_slsa_verification_summary(version):
    """Oracle: the schema in in-toto-attestation 0.9.3, without the field of an extension.

    verifiedLevels is removed, too: the specification has a list, that schema one text.
    """
    from google.protobuf import json_format
    from in_toto_attestation.predicates.vsa.v1.vsa_pb2 import VerificationSummary

    tree = json.loads(statements.gate_payload(version.decision, version.address, "0" * 32, TIME))
    ledger = tree["predicate"].pop("urn:mcti:ledger")
    assert ledger == {"number": 5, "sha256": version.decision.hash, "action": "promote"}
    assert tree["predicate"].pop("verifiedLevels") == ["MCTI_GATES"]
    summary = json_format.ParseDict(tree["predicate"], VerificationSummary())
    assert summary.verification_result == "PASSED"
    assert summary.resource_uri == "models:/lung-os/3"
    assert tree["subject"] == [{"name": "models:/lung-os/3", "digest": {"sha256": version.tags["mcti.digest"]}}]


@pytest.mark.parametrize("action", ["reject", "not-enough-evidence"])
def test_a_decision_that_does_not_promote_has_failed(version, action):
    built = statements.build_gate(version.entry(action=action), version.address, "0" * 32)
    assert (built["verificationResult"], built["verifiedLevels"]) == ("FAILED", [])


def test_what_one_step_made_is_what_the_next_one_used(version):
    trees = {step: statement(version, step) for step in statements.STEPS}
    outputs = {step: tree["subject"] for step, tree in trees.items()}
    inputs = {step: tree["predicate"]["buildDefinition"]["resolvedDependencies"] for step, tree in trees.items()}
    assert {"name": "source", "digest": {"dvc_tree_md5": "d" * 32}} in inputs["features"]
    assert {"name": "encoder", "digest": {"sha256": "9" * 64}} in inputs["features"]
    assert outputs["features"] == [
        {"name": "data/cohort", "digest": {"dvc_tree_md5": "1" * 32}},
        {"name": "data/folds.csv", "digest": {"md5": "2" * 32}},
    ]
    for step, earlier in (("folds", "features"), ("training", "features"), ("training", "folds")):
        assert all(resource in inputs[step] for resource in outputs[earlier])
    assert {"name": "code", "digest": {"gitCommit": "a" * 40}} in inputs["training"]
    assert {resource["name"] for resource in outputs["training"]} == {"ensemble.json"} | {
        f"fold_{n}/{name}" for n in range(3) for name in ("model.json", "weights.safetensors")
    }
    ensemble = {"name": "ensemble", "digest": {"sha256": version.tags["mcti.digest"]}}
    assert inputs["evaluation"] == [ensemble]
    assert {resource["name"] for resource in outputs["evaluation"]} == {
        "metrics.json", "predictions.csv", "groups.csv", "result.json"
    }  # fmt: skip
    assert ensemble in inputs["registration"]
    assert [resource["name"] for resource in outputs["registration"]] == ["card.json", "mlbom.json", "sbom.json"]


def test_tags_that_are_added_later_are_not_signed():
    tags = {"mcti.approved.rita": "x", "mcti.external.abc": "y", "other": "z", "mcti.digest": "d"}
    assert statements.signed_tags(tags) == {"mcti.digest": "d"}


def test_sources_and_prior_are_materials_of_the_training_and_of_no_other_step(version):
    source = {"name": "luad", "digest": "6" * 32}
    prior = {"name": "pan", "version": "4", "digest": "8" * 64}
    tags = {**version.tags, "mcti.data.transfer/luad": "6" * 32, "mcti.data.transfer/prior": "8" * 32}
    facts = dataclasses.replace(version.facts, tags=tags, transfer={"sources": [source], "prior": prior})
    built, before = ({step: statements.build(step, one) for step in statements.STEPS} for one in (facts, version.facts))
    used, plain = (one["training"]["buildDefinition"]["resolvedDependencies"] for one in (built, before))
    assert [resource for resource in used if resource not in plain] == [
        {"name": "source luad", "digest": {"md5": "6" * 32}},
        {"name": "prior", "uri": "models:/pan/4", "digest": {"sha256": "8" * 64}},
    ]
    assert all(built[step] == before[step] for step in ("features", "folds", "evaluation"))
    assert built["training"]["subject"] == before["training"]["subject"]
