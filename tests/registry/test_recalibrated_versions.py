"""A recalibrated version in the registry: its parent, its own evidence, and what the gates require of it."""

import shutil

import pytest

from mcti import storage
from mcti.errors import DataError, NotEnoughEvidence, Rejected
from mcti.params import RegisterParams, TrustParams
from mcti.registry import evidence, external_validations, models, recalibrated_versions, tracking
from mcti.registry.trust import keys
from mcti.steps.promote.step import promote
from mcti.steps.register import register
from mcti.steps.test.step import test as step
from mcti.steps.verify import verify
from tests.registry.trust.factories import write_site
from tests.steps.test.factories import EVALUATE, PROMOTE, develop, shortened, varied
from tests.training.factories import folders, settings

pytestmark = [pytest.mark.slow, pytest.mark.stack]

NAME = "recalibrated"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of 60 patients with its evaluation, and 100 other patients with times a third as long."""
    root = tmp_path_factory.mktemp("a world")
    develop(root, EVALUATE, settings(epochs=3, workers=1, cox_weight=0.5), 60)
    other, _, _ = folders(root / "other", patients=100, seed=1)
    varied(other, 1, "N-")
    shortened(other)
    return root


def recalibrate(root, out, number=1):
    other, address = root / "other", f"models:/{NAME}/{number}"
    return step(address, other / "cohort", other / "features", EVALUATE, out, recalibration_share=0.5)


def test_the_whole_way_from_a_registered_model_to_a_recalibrated_champion(world, servers_of, tmp_path, monkeypatch):
    key_file, trust_file = write_site(tmp_path)
    monkeypatch.setenv(keys.KEY, str(key_file))
    params = RegisterParams(name=NAME, experiment="tests")
    register(world / "models", world / "evaluation", None, params, tmp_path / "registration.json")
    with pytest.raises(NotEnoughEvidence, match="no external validation; 10 are needed"):
        promote(NAME, PROMOTE)
    result = recalibrate(world, tmp_path / "out")
    after = result.recalibrated
    assert (result.version, after.version) == ("1", "2")
    assert recalibrate(world, tmp_path / "again").recalibrated == after, "one version, also after a repeated call"
    for name in ("1", "2", "md5", "card"):
        (tmp_path / name).mkdir()
    with tracking.service() as client:
        parent, version = (models.version_by_number(client, NAME, number) for number in (1, 2))
        assert len(client.search_model_versions(f"name = '{NAME}'")) == 2
        validations = {
            number: external_validations.read(client, v, tmp_path / str(number))
            for number, v in ((1, parent), (2, version))
        }
    assert version.tags[recalibrated_versions.PARENT] == "1"
    assert version.tags[recalibrated_versions.PARENT_DIGEST] == parent.tags[models.DIGEST] == result.digest
    assert version.tags[recalibrated_versions.COHORT_MD5] == result.cohort_md5
    assert version.tags[models.DIGEST] == after.digest != result.digest
    assert version.tags[models.EVALUATION] == evidence.md5_of(models.run_of(version), "unknown", tmp_path / "md5")
    assert "**Recalibrated** from version 1" in version.description
    assert (validations[1][0].patients, validations[1][0].ibs_difference) == (100, None)
    assert validations[2][0].patients == after.patients == 100 - after.fit_patients
    assert validations[2][0].ibs_difference == after.ibs_difference
    card = storage.read_json(evidence.fetch(models.run_of(version), "card.json", tmp_path / "card", "card"))
    assert (card["lineage"]["digest"], card["recalibration"]["slope"]) == (after.digest, after.slope)
    assert "recalibration" in card["lineage"]["data"]
    materials = storage.read_json(evidence.fetch(models.run_of(version), "mlbom.json", tmp_path / "card", "card"))
    assert materials["metadata"]["component"]["version"] == after.digest
    checks = verify(f"models:/{NAME}/2", TrustParams(keys=str(trust_file))).checks
    assert {check.subject for check in checks if check.state != "verified"} == {"gate"}, "promoted below"
    loaded = models.fetch(f"models:/{NAME}/2", tmp_path / "fetched")
    assert storage.read_json(loaded / "ensemble.json")["recalibration"]["cohort_md5"] == result.cohort_md5

    with pytest.raises(NotEnoughEvidence, match="the champion is not set: promote the parent, version 1, first"):
        promote(NAME, PROMOTE, version=2)
    assert promote(NAME, PROMOTE, version=1).outcome == "promote"
    with tracking.service() as client:  # that it is recalibrated is part of the digest: the tags do not decide
        for tag in (recalibrated_versions.PARENT, recalibrated_versions.PARENT_DIGEST):
            client.delete_model_version_tag(NAME, "2", tag)
    broken = [check for check in verify(f"models:/{NAME}/2", TrustParams(keys=str(trust_file))).checks
              if check.state == "broken"]  # fmt: skip
    assert [check.subject for check in broken] == ["registration"]
    assert "mcti.parent_version: signed 1, now absent" in broken[0].note
    promoted = promote(NAME, PROMOTE, version=2)
    (gate,) = [gate for gate in promoted.gates if gate.name == "recalibration"]
    assert (promoted.outcome, gate.verdict) == ("promote", "pass")
    assert gate.numbers["made"]["high"] == after.ibs_difference["high"] < 0
    with tracking.service() as client:
        assert models.version_by_alias(client, NAME, models.CHAMPION).version == "2"

    address, other = f"models:/{NAME}/2", world / "other"
    with pytest.raises(DataError, match="50 of 100 patients belong to the recalibration of the model"):
        step(address, other / "cohort", other / "features", EVALUATE, tmp_path / "refused")


def test_the_tags_of_a_parent_do_not_choose_the_gates(world, servers_of, tmp_path):
    params = RegisterParams(name="tagged", experiment="tests")
    register(world / "models", world / "evaluation", None, params, tmp_path / "registration.json")
    with tracking.service() as client:
        client.set_model_version_tag("tagged", "1", recalibrated_versions.PARENT, "1")
        client.set_model_version_tag("tagged", "1", recalibrated_versions.PARENT_DIGEST, "0" * 64)
    decision = promote("tagged", PROMOTE.model_copy(update={"external": False}), dry_run=True)
    names = {gate.name for gate in decision.gates}
    assert "first champion" in names
    assert "recalibration" not in names


def test_a_validation_with_patients_of_the_fit_is_rejected(world, servers_of, tmp_path):
    """As another program could log it: the results of all patients, stated as those of the recalibrated version."""
    params = RegisterParams(name="overlap", experiment="tests")
    register(world / "models", world / "evaluation", None, params, tmp_path / "registration.json")
    other = world / "other"
    result = step(
        "models:/overlap/1", other / "cohort", other / "features", EVALUATE, tmp_path / "out", recalibration_share=0.5
    )
    promote("overlap", PROMOTE, version=1)
    shutil.copytree(tmp_path / "out", tmp_path / "altered")
    written = storage.read_json(tmp_path / "out" / "result.json")
    changed = {"version": "2", "digest": result.recalibrated.digest}
    storage.write_json(tmp_path / "altered" / "result.json", written | changed)
    external_validations.log(tmp_path / "altered")
    with pytest.raises(Rejected, match="the recalibration used 50 patients of the validation on made"):
        promote("overlap", PROMOTE, version=2)
