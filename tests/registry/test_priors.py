import json

import pytest

from mcti.errors import DataError
from mcti.redaction import hashed
from mcti.registry import ensemble_files
from mcti.registry.priors import PriorFiles, read_prior
from tests.registry.factories import GENES, Run
from tests.registry.test_transfer_origin import SPEC


def change_specs(models, change):
    for path in models.glob("fold_*/model.json"):
        spec = json.loads(path.read_text())
        change(spec)
        path.write_text(json.dumps(spec))


def with_profile(spec):
    spec["reference"] = {
        "patients": 8,
        "events": 5,
        "families": {},
        "cuts": {},
        "clip": 10.0,
        "risk": "0 0",
        "training_risk": "0 0",
        "continuous": [],
    }
    spec["cohort"] = {"name": "luad", "endpoint": "OS", "expression_scale": "log2", "patients": 8}
    spec["sources"] = [SPEC["sources"][0] | {"patients": [hashed("S-1")]}]
    spec["prior"] = {"name": "older", "version": "1", "digest": "0" * 64, "patients": [hashed("T-1")]}


def files(run, root):
    ensemble_files.assemble(run.models, root / "ensemble")
    return PriorFiles(str(root / "ensemble"), "pan-cancer", "3")


def test_a_prior_has_the_models_the_profiles_and_every_patient_that_was_learned_from(tmp_path):
    run = Run(tmp_path)
    change_specs(run.models, with_profile)
    prior = read_prior(files(run, tmp_path))
    assert (prior.name, prior.version) == ("pan-cancer", "3")
    assert prior.cohort == {"name": "luad", "endpoint": "OS", "expression_scale": "log2"}
    assert prior.features["encoder"] == "hed44"
    assert sorted(prior.members) == sorted(prior.profiles) == ["fold_0", "fold_1", "fold_2"]
    assert prior.members["fold_1"].config.genes == GENES
    assert prior.patients == {hashed(name) for name in [*run.ids, "S-1", "T-1"]}
    assert prior.digest == ensemble_files.load(tmp_path / "ensemble").digest


def test_a_prior_without_a_reference_profile_is_refused(tmp_path):
    with pytest.raises(DataError, match="no reference profile") as caught:
        read_prior(files(Run(tmp_path), tmp_path))
    assert caught.value.where == "model pan-cancer, version 3"


def test_an_altered_file_of_a_prior_is_refused(tmp_path):
    run = Run(tmp_path)
    change_specs(run.models, with_profile)
    fetched = files(run, tmp_path)
    path = tmp_path / "ensemble" / "fold_1" / "model.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(DataError, match="is not the registered"):
        read_prior(fetched)
