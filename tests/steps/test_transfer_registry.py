"""A prior of a real registry: fetched, verified, used in training, and shown by lineage, card and dossier."""

import json

import pytest

from mcti.errors import DataError
from mcti.params import RegisterParams
from mcti.registry import models, tracking
from mcti.registry.priors import fetch_prior, read_prior, version_of_prior
from mcti.steps.dossier import dossier
from mcti.steps.lineage import lineage
from mcti.steps.register import register
from tests.registry.factories import Run
from tests.registry.test_priors import change_specs, with_profile
from tests.registry.test_transfer_origin import SPEC, USED

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def registered(folder, name, change):
    run = Run(folder)
    change_specs(run.models, change)
    params = RegisterParams(name=name, experiment="tests")
    return register(run.models, run.evaluation, run.validation, params, folder / "registration.json")


def test_a_version_is_fetched_by_alias_and_number_and_a_missing_one_is_refused(servers_of, tmp_path):
    version = registered(tmp_path / "run", "prior-of-registry", with_profile)
    for number, address in enumerate(("@challenger", f"/{version.version}")):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        prior = read_prior(fetch_prior(f"models:/prior-of-registry{address}", scratch))
        assert (prior.name, prior.version) == ("prior-of-registry", str(version.version))
        assert prior.digest == version.digest
    expected = {"name": "prior-of-registry", "version": str(version.version), "digest": version.digest}
    assert version_of_prior("models:/prior-of-registry@challenger") == expected
    for address in ("models:/no-such-model@champion", "models:/prior-of-registry@champion"):
        with pytest.raises(DataError, match="no version has the alias champion"):
            fetch_prior(address, tmp_path)
    with pytest.raises(DataError, match="no version 99"):
        fetch_prior("models:/prior-of-registry/99", tmp_path)


def test_weights_that_are_not_those_of_the_tag_are_refused(servers_of, tmp_path):
    version = registered(tmp_path / "run", "altered-prior", with_profile)
    with tracking.service() as client:
        client.set_model_version_tag("altered-prior", str(version.version), models.DIGEST, "0" * 64)
    with pytest.raises(DataError, match="the weights are not those that were registered"):
        fetch_prior("models:/altered-prior@challenger", tmp_path)


def test_lineage_data_versions_and_dossier_show_sources_and_prior(servers_of, tmp_path):
    prior = registered(tmp_path / "prior", "pan", with_profile)

    def learned(digest):
        def change(spec):
            spec |= json.loads(json.dumps(SPEC))
            spec["prior"] |= {"version": str(prior.version), "digest": digest}
            spec["digests"] |= {"sources": ["1" * 32, "2" * 32], "prior": digest}

        return change

    version = registered(tmp_path / "model", "learned", learned(prior.digest))
    assert version.data["transfer/luad"] == "1" * 32
    links = {link.what: link for link in lineage(f"models:/learned/{version.version}").links}
    assert (links["prior"].state, links["prior"].value) == ("verified", prior.digest)
    assert links["source luad"].state == "recorded"
    assert not [name for name in links if name.startswith("data transfer/")]
    dossier(f"models:/learned/{version.version}", tmp_path / "dossier.html")
    page = (tmp_path / "dossier.html").read_text(encoding="utf-8")
    assert USED in page
    assert prior.digest in page
    altered = registered(tmp_path / "altered", "learned-altered", learned("9" * 64))
    with pytest.raises(DataError, match=r"prior: pan version .* has the digest"):
        lineage(f"models:/learned-altered/{altered.version}")


def test_a_prior_that_was_deleted_is_shown_as_recorded(servers_of, tmp_path):
    def change(spec):
        spec["prior"] = {"name": "deleted", "version": "4", "digest": "8" * 64, "patients": []}

    version = registered(tmp_path / "model", "orphan", change)
    links = {link.what: link for link in lineage(f"models:/orphan/{version.version}").links}
    assert (links["prior"].state, links["prior"].value) == ("recorded", "8" * 64)
    assert "no longer in the registry" in links["prior"].note
