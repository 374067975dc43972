"""The folds as one model: development patients by the fold that tested them, new patients by the mean."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from mcti.errors import DataError
from mcti.model.categories import Category
from mcti.model.clinical import check_ranges
from mcti.model.competing_hazard import CompetingHazard
from mcti.model.network import MCTI
from mcti.model.trained import Scale, TrainedModel
from mcti.registry import ensemble, ensemble_files, prediction_columns
from mcti.registry.v2_protocol import model_metadata
from tests.registry.factories import GENES, Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def assembled(run, tmp_path):
    ensemble_files.assemble(run.models, tmp_path / "ensemble")
    return tmp_path / "ensemble"


def genes_of(run, number):
    return dict(zip(GENES, map(float, run.genes[number]), strict=True))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, ""),  # a file of another tool without attributes
        ({"encoder": "uni", "encoder_weights_sha256": "", "target_mpp": 0.5}, ""),
        ({"encoder": "timm:uni", "encoder_weights_sha256": "ab"}, ""),  # the same weights with another name
        ({"encoder": "uni", "encoder_weights_sha256": "cd"}, "encoder_weights_sha256 cd, .* ab"),
        ({"encoder": "conch"}, "encoder conch, .* uni"),
        ({"encoder": "uni", "target_mpp": 1.0}, "target_mpp 1.0, .* 0.5"),
        ({"encoder": "uni", "target_mpp": [0.5, 1.0]}, "target_mpp"),
        ({"encoder": "uni", "target_mpp": 0.5, "target_patch_size": 512}, "target_patch_size 512, .* 256"),
        ({"encoder": "unknown", "target_mpp": 0.5, "target_patch_size": 256}, ""),  # declared as not known
    ],
)
def test_features_of_another_origin_are_refused_where_their_files_record_it(assembled, attributes, message):
    known = {"encoder": "uni", "encoder_weights_sha256": "ab", "target_mpp": 0.5, "target_patch_size": 256}
    loaded = dataclasses.replace(ensemble_files.load(assembled), feature_attributes=known)
    if not message:
        loaded.check_features(attributes, "features")
        return
    with pytest.raises(DataError, match=message):
        loaded.check_features(attributes, "features")


def test_a_development_patient_gets_the_bits_of_the_fold_that_tested_them(run, assembled):
    loaded = ensemble_files.load(assembled)
    expected = pd.read_csv(run.evaluation / "predictions.csv", float_precision="round_trip").set_index("patient_id")
    for number, patient in enumerate(run.ids):
        row = loaded.predict(patient, torch.from_numpy(run.bags[number]), genes_of(run, number))
        assert row["risk"] == expected.loc[patient, "risk"]
        assert row["S_60"] == expected.loc[patient, "S_60"]
        assert row["model"] == f"fold_{run.fold[number]}"


def test_a_new_patient_gets_the_mean_of_all_members(run, assembled):
    row = ensemble_files.load(assembled).predict("new", torch.from_numpy(run.bags[0]), genes_of(run, 0))
    each = [run.model(fold).predict(*run.patient(0), (12.0, 60.0)) for fold in range(3)]
    assert row["model"] == "ensemble"
    # The members are computed in one pass: the last digits of float32 may differ from those of each alone.
    assert row["risk"] == pytest.approx(np.mean([e["risk"] for e in each]), rel=1e-6)
    assert row["S_12"] == pytest.approx(np.mean([e["S_12"] for e in each]), rel=1e-6)


def test_a_folder_of_folds_and_its_ensemble_have_the_same_digest(run, assembled):
    assert ensemble_files.load(run.models).digest == ensemble_files.load(assembled).digest


def test_no_file_of_the_ensemble_contains_a_patient_id(run, assembled):
    text = "".join(path.read_text() for path in assembled.rglob("*.json"))
    assert not any(patient in text for patient in run.ids)


def test_genes_are_selected_by_name_in_any_order(run, assembled):
    loaded, bag = ensemble_files.load(assembled), torch.from_numpy(run.bags[3])
    ordered = genes_of(run, 3)
    shuffled = {"ANOTHER": 9.0, **dict(reversed(ordered.items()))}
    assert loaded.predict("x", bag, shuffled) == loaded.predict("x", bag, ordered) | {"unknown_genes": 1}


def test_a_missing_gene_is_named_and_an_unmeasured_one_is_null(run, assembled):
    loaded, bag, genes = ensemble_files.load(assembled), torch.from_numpy(run.bags[0]), genes_of(run, 0)
    with pytest.raises(DataError, match=r"'ESR1' is missing.*patient x.*null"):
        loaded.predict("x", bag, {name: value for name, value in genes.items() if name != "ESR1"})
    assert math.isfinite(loaded.predict("x", bag, genes | {"ESR1": None})["risk"])


def test_a_few_missing_genes_count_as_not_measured_with_a_warning(run, assembled, monkeypatch):
    loaded, bag, genes = ensemble_files.load(assembled), torch.from_numpy(run.bags[0]), genes_of(run, 0)
    monkeypatch.setattr(ensemble, "MAX_MISSING_GENES", 0.34)
    short = {name: value for name, value in genes.items() if name != "ESR1"}
    with pytest.warns(ensemble.MissingGenesWarning, match="1 genes of the model are missing .*: ESR1"):
        prediction = loaded.predict("x", bag, short)
    assert prediction == loaded.predict("x", bag, genes | {"ESR1": None})
    del short["ERBB2"]
    with pytest.raises(DataError, match=r"\(2 of 3\).*at most 34% may be missing"):
        loaded.predict("x", bag, short)


def test_an_altered_file_is_refused(assembled):
    path = assembled / "fold_1" / "model.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(DataError, match=r"SHA-256 .*fold_1/model.json"):
        ensemble_files.load(assembled)


@pytest.mark.parametrize("name", ["../fold_9", "fold_x", "/etc"])
def test_a_member_outside_the_folder_is_refused(assembled, name):
    path = assembled / "ensemble.json"
    index = json.loads(path.read_text())
    index["members"][name] = index["members"]["fold_0"]
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match="is not a fold"):
        ensemble_files.load(assembled)


def test_weights_with_a_nan_are_refused(tmp_path):
    run = Run(tmp_path)
    path = run.models / "fold_2" / "weights.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].flatten()[0] = math.nan
    save_file(tensors, path)
    with pytest.raises(DataError, match=r"NaN.*fold_2"):
        ensemble_files.load(run.models)


def test_a_pickle_as_weights_is_refused_unopened(tmp_path):
    run = Run(tmp_path)
    torch.save({"weight": torch.zeros(1)}, run.models / "fold_0" / "weights.safetensors")
    with pytest.raises(DataError, match="not a safetensors file"):
        ensemble_files.load(run.models)


def test_a_folder_without_folds_is_refused_with_the_command_to_run(tmp_path):
    with pytest.raises(DataError, match="mcti train"):
        ensemble_files.load(tmp_path)


def test_a_refit_predicts_new_patients_and_development_patients_keep_the_bits_of_the_evaluation(tmp_path):
    run = Run(tmp_path)
    run.refit()
    ensemble_files.assemble(run.models, tmp_path / "ensemble", refit=True)
    loaded, folds = ensemble_files.load(tmp_path / "ensemble"), ensemble_files.load(run.models)
    bag, genes = torch.from_numpy(run.bags[0]), genes_of(run, 0)
    known = [model.predict(run.ids[0], bag, genes) | {"digest": ""} for model in (loaded, folds)]
    assert known[0] == known[1]
    new = loaded.predict("new", bag, genes)
    assert new["model"] == "refit"
    assert new["risk"] == loaded.members["refit"].predict(*run.patient(0), (12.0, 60.0))["risk"]
    assert new["risk"] != folds.predict("new", bag, genes)["risk"]
    assert loaded.digest != folds.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params": {"epochs": 4}}, "other settings than the folds"),
        ({"patients": ["0" * 64]}, "other patients than the folds"),
        ({"digests": {"code": "f" * 32}}, "other code than the folds"),
    ],
)
def test_a_refit_of_another_run_is_refused(tmp_path, changes, message):
    run = Run(tmp_path)
    run.refit(**changes)
    with pytest.raises(DataError, match=message):
        ensemble_files.assemble(run.models, tmp_path / "ensemble", refit=True)


def test_a_missing_refit_is_refused_with_the_command_to_run(run, tmp_path):
    with pytest.raises(DataError, match="mcti train --refit"):
        ensemble_files.assemble(run.models, tmp_path / "ensemble", refit=True)


@pytest.mark.parametrize("key", ["params", "digests"])
def test_folds_with_other_settings_or_code_are_refused(tmp_path, key):
    """Both when they are registered and when their folder is loaded."""
    run = Run(tmp_path)
    file = run.models / "fold_1" / "model.json"
    spec = json.loads(file.read_text())
    change = {"params": {"epochs": 4}, "digests": spec["digests"] | {"code": "0" * 32}}
    file.write_text(json.dumps(spec | {key: change[key]}))
    message = {"params": "train.epochs is 4 instead of 3", "digests": "code is '0000"}[key]
    with pytest.raises(DataError, match=rf"the folds belong to different models: {message}.*fold_1"):
        ensemble_files.assemble(run.models, tmp_path / "ensemble")
    assert not (tmp_path / "ensemble").exists()
    with pytest.raises(DataError, match="the folds belong to different models"):
        ensemble_files.load(run.models)


def test_a_refit_after_a_nested_search_shares_only_the_settings_that_were_not_searched(tmp_path):
    """Each fold has the settings of its own search, and the refit their median."""
    run = Run(tmp_path)
    record = {"search": {"nested": True, "settings": ["learning_rate"]}}
    for number, folder in enumerate(sorted(run.models.glob("fold_*"))):
        spec = json.loads((folder / "model.json").read_text())
        settings = {"epochs": 3, "learning_rate": 10.0**-number}
        (folder / "model.json").write_text(json.dumps(spec | record | {"params": settings}))
    run.refit(params={"epochs": 3, "learning_rate": 0.5}, **record)
    ensemble_files.assemble(run.models, tmp_path / "out", refit=True)
    shutil.rmtree(run.models / "refit")
    run.refit(params={"epochs": 4, "learning_rate": 0.5}, **record)
    with pytest.raises(DataError, match="other settings than the folds"):
        ensemble_files.assemble(run.models, tmp_path / "again", refit=True)


def test_unknown_genes_are_counted(run, assembled):
    patches, genes = run.patient(0)
    named = dict(zip(GENES, genes.tolist(), strict=True))
    loaded = ensemble_files.load(assembled)
    assert loaded.predict("new", patches, named)["unknown_genes"] == 0
    assert loaded.predict("new", patches, named | {"ESR": 1.0, "TP53": None})["unknown_genes"] == 2


def test_survival_beyond_the_longest_follow_up_in_training_is_flagged(run, assembled):
    """The last time bin of the synthetic models ends at 200 months."""
    patches, genes = run.patient(0)
    named = dict(zip(GENES, genes.tolist(), strict=True))
    loaded = ensemble_files.load(assembled)
    assert loaded.predict("new", patches, named)["beyond_followup"] == ""
    row = loaded.predict("new", patches, named, horizons_months=(12, 200, 200.5, 240))
    assert row["beyond_followup"] == "S_200.5+S_240"
    assert list(row) == list(prediction_columns.column_types((12, 200, 200.5, 240)))


def test_with_competing_events_the_incidence_is_the_mean_over_the_members_and_all_else_is_unchanged(run, tmp_path):
    hazard = CompetingHazard((5.0, 30.0), (0.1, 0.5))
    other = Run(tmp_path / "run", competing=hazard)
    ensemble_files.assemble(other.models, tmp_path / "with")
    ensemble_files.assemble(run.models, tmp_path / "without")
    folders = (tmp_path / name for name in ("with", "without"))
    loaded, plain = (ensemble_files.load(folder) for folder in folders)
    assert (loaded.competing, plain.competing) == (True, False)
    assert [output["name"] for output in model_metadata("m", "1", loaded)["outputs"]] == list(
        prediction_columns.column_types(loaded.horizons_months, competing=True)
    )
    patches = torch.from_numpy(run.bags[0])
    for patient in ("new", run.ids[0]):
        row = loaded.predict(patient, patches, genes_of(run, 0), horizons_months=(12, 60))
        assert list(row) == list(prediction_columns.column_types((12, 60), competing=True))
        expected = plain.predict(patient, patches, genes_of(run, 0), horizons_months=(12, 60))
        assert {name: row[name] for name in expected if name != "digest"} | {"digest": expected["digest"]} == expected
        members = loaded.member_predictions(patient, patches, genes_of(run, 0), (5, 12, 30, 60))
        # The steps of the hazard worked out: before month 5, to month 30, and after it.
        for months in (12, 60):
            values = [worked_incidence(one, months) for one in members.values()]
            assert row[f"F_{months}"] == pytest.approx(np.mean(values), abs=1e-12)
            if len(values) > 1:
                assert row[f"F_{months}_low"] == pytest.approx(min(values), abs=1e-12)
                assert row[f"F_{months}_high"] == pytest.approx(max(values), abs=1e-12)
            else:
                assert row[f"F_{months}_low"] is None


def worked_incidence(row, months):
    ends = [end for end in (5, 30) if end < months] + [months]
    curve = [1.0, *(row[f"S_{end}"] for end in ends)]
    factors = [1.0, math.exp(-0.1), math.exp(-0.5)]
    return sum(factors[k] * (curve[k] - curve[k + 1]) for k in range(len(ends)))


def test_members_with_and_without_competing_events_are_refused(assembled):
    loaded = ensemble_files.load(assembled)
    first = loaded.members["fold_0"]
    fitted = dataclasses.replace(first.fitted, competing=CompetingHazard((), ()))
    members = {**loaded.members, "fold_0": TrainedModel(first.net, first.config, fitted)}
    with pytest.raises(DataError, match="some members have a hazard of the competing event"):
        dataclasses.replace(loaded, members=members)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"age": 22000.0}, "'age' is 22000, not 0 to 120 .*years"), ({"age": -1.0}, "'age' is -1"),
     ({"is_female": 2.0}, "'is_female' is 2, not 0 to 1"), ({"age": None, "is_female": 1.0}, ""),
     ({"age": 120.0, "size_cm": 900.0}, ""), ({"age": math.nan}, "")],
)  # fmt: skip
def test_covariates_outside_the_range_of_the_contract_are_refused(values, message):
    names = tuple(values)
    if not message:
        check_ranges(values, names)
        check_ranges({"age": 22000.0}, ("size_cm",))  # a covariate that the model does not read
        return
    with pytest.raises(DataError, match=message):
        check_ranges(values, names)


STAGE = Category(name="stage", levels=("I", "II", "III"), ordered=True)


@pytest.fixture
def staged(run, assembled):
    """The ensemble of two members that read the stage; one of them has not seen level III."""
    members = {}
    for name, category in (("a", STAGE), ("b", Category(name="stage", levels=("I", "II"), ordered=True))):
        shape = dataclasses.replace(run.model(0).config, covariates=("stage",), categories=(category,))
        torch.manual_seed(3)
        width = len(category.columns)
        fitted = dataclasses.replace(run.model(0).fitted, covariates=Scale(torch.zeros(width), torch.ones(width)))
        members[name] = TrainedModel(MCTI(shape), shape, fitted)
    return dataclasses.replace(ensemble_files.load(assembled), members=members, assigned={}, reference_profiles={})


def stage_risk(ensemble, run, stage):
    bag = torch.from_numpy(run.bags[0])
    return ensemble.predict("new", bag, genes_of(run, 0), covariates={"stage": stage})


def test_members_may_have_seen_different_levels_and_each_reads_its_own(run, staged):
    assert staged.levels == {"stage": ("I", "II", "III")}
    rows = {stage: stage_risk(staged, run, stage) for stage in ("I", "II", "III")}
    assert len({row["risk"] for row in rows.values()}) == 3
    members = staged.member_predictions("new", torch.from_numpy(run.bags[0]), genes_of(run, 0), None, {"stage": "III"})
    absent = staged.member_predictions("new", torch.from_numpy(run.bags[0]), genes_of(run, 0), None, {"stage": None})
    assert members["b"] == absent["b"]
    assert members["a"] != absent["a"]


def test_a_level_that_no_member_has_seen_is_a_missing_value_with_a_warning(run, staged):
    with pytest.warns(ensemble.UnseenLevelWarning, match=r"stage 'IV' did not occur in training .*I, II, III"):
        unseen = stage_risk(staged, run, "IV")
    missing = stage_risk(staged, run, None)
    assert unseen["risk"] == missing["risk"]
    assert missing["missing"] == "clinical"
    assert staged.example_covariates == {"stage": "I"}


def test_a_number_in_place_of_a_level_is_refused(run, staged):
    with pytest.raises(DataError, match="covariate 'stage' is the number 2, not a level"):
        stage_risk(staged, run, 2)


def test_the_metadata_of_the_server_list_the_levels(staged):
    (described,) = [one for one in model_metadata("m", "1", staged)["inputs"] if one["name"] == "covariates"]
    assert described["parameters"] == {"levels": {"stage": ["I", "II", "III"]}}


def test_the_endpoint_of_the_training_is_read_where_it_is_recorded(tmp_path):
    for number, record in enumerate(({}, {"cohort": {"endpoint": "DFI"}})):
        (tmp_path / f"fold_{number}").mkdir()
        (tmp_path / f"fold_{number}" / "model.json").write_text(json.dumps(record))
    assert ensemble_files.endpoint(tmp_path) == "DFI"
    shutil.rmtree(tmp_path / "fold_1")
    assert ensemble_files.endpoint(tmp_path) is None
