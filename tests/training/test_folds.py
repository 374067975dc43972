import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from mcti import storage
from mcti.dataset.scaling import fit_competing
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError
from mcti.training import fold_files, folds
from tests.training import factories

IDS = [f"P-{number:03}" for number in range(16)]
SPLIT = FoldSplit(0, tuple(IDS[4:]), tuple(IDS[:4]))


def parts(data):
    return data.select(SPLIT.train, "fold 0"), data.select(SPLIT.test, "fold 0")


def test_the_identity_depends_on_data_and_settings_and_not_on_workers():
    data = factories.dataset(16)
    usual = folds.identify(data, *parts(data), factories.settings(), 0)
    assert folds.identify(data, *parts(data), factories.settings(workers=3, checkpoint_seconds=9.0), 0) == usual
    assert folds.identify(data, *parts(data), factories.settings(alpha=0.9), 0) != usual
    assert set(usual["digests"]) == {"train", "test", "names", "code"}
    renamed = dataclasses.replace(data, genes=("other", *data.genes[1:]))
    assert (
        folds.identify(renamed, *parts(data), factories.settings(), 0)["digests"]["names"] != usual["digests"]["names"]
    )


def test_the_network_has_learned_tokens_if_a_training_patient_lacks_a_modality():
    data = factories.dataset(16)
    bags = list(data.bags.values())
    config = folds.configure(data, bags, factories.settings(), factories.WIDTH)
    assert (config.missing, list(config.modalities)) == (False, ["slides", "genes"])
    without = [dataclasses.replace(bags[0], patches=None), *bags[1:]]
    assert folds.configure(data, without, factories.settings(), factories.WIDTH).missing
    genes = [dataclasses.replace(bag, patches=None) for bag in bags]
    assert list(folds.configure(data, genes, factories.settings(), factories.WIDTH).modalities) == ["genes"]


def test_a_test_patient_whom_the_model_cannot_read_is_named_before_the_training():
    data = factories.dataset(16)
    train_bags, test_bags = parts(data)
    config = folds.configure(data, train_bags, factories.settings(), factories.WIDTH)
    folds.check_test_part(config, test_bags, "fold 0")
    empty = dataclasses.replace(test_bags[1], patches=None)
    with pytest.raises(DataError, match="fold 0, patient P-001"):
        folds.check_test_part(config, [test_bags[0], empty], "fold 0")


def test_checkpoints_are_in_the_work_folder_or_below_the_persistent_one(monkeypatch):
    monkeypatch.delenv("MCTI_CHECKPOINTS", raising=False)
    assert folds._checkpoint_folder(Path("out"), SPLIT, {"a": 1}) == Path("out/.work/fold_0")
    monkeypatch.setenv("MCTI_CHECKPOINTS", "/persistent")
    monkeypatch.setenv("MCTI_RUN", "run-7")
    one, two = (folds._checkpoint_folder(Path("out"), SPLIT, {"a": value}) for value in (1, 2))
    assert one.parent == Path("/persistent/run-7")
    assert one != two


def test_a_prepared_task_is_fitted_on_its_bags_alone():
    data = factories.dataset(16)
    train_bags, _ = parts(data)
    task = folds.prepare(data, train_bags, factories.settings(), ("fold", 0), "fold 0")
    changed = {name: dataclasses.replace(data.bags[name], genes=data.bags[name].genes + 9) for name in SPLIT.test}
    other = dataclasses.replace(data, bags={**data.bags, **changed})
    again = folds.prepare(other, other.select(SPLIT.train, "fold 0"), factories.settings(), ("fold", 0), "fold 0")
    assert task.fitted.spec() == again.fitted.spec()
    assert task.params == factories.settings()


STAGES = ("I", "II", "III", "IV")


def staged(change=lambda row, stage: stage):
    """Patients whose survival depends on the stage alone; stage IV occurs in the test part only."""
    data = factories.dataset(60)
    bags = {}
    for row, (name, bag) in enumerate(data.bags.items()):
        stage = "IV" if row == 0 else STAGES[row % 3]
        months = 90.0 / (1 + STAGES.index(stage)) ** 2 + row / 100
        outcome = {"time_months": months, "event": row % 5 > 0}
        bags[name] = dataclasses.replace(bag, **outcome, categories={"stage": change(row, stage)})
    return dataclasses.replace(data, bags=bags, ordered={"stage": STAGES})


def train_staged(data, out, **changes):
    names = tuple(data.bags)
    settings = factories.settings(architecture={"covariates": ["stage"]}, **changes)
    folds.train_fold(data, FoldSplit(0, names[6:], names[:6]), settings, out)
    return fold_files.load(out / "fold_0"), storage.read_json(out / "fold_0" / "model.json")


def test_the_hazard_of_the_competing_event_is_that_of_the_training_part_and_changes_nothing_else(tmp_path):
    data, split = factories.dataset(16), SPLIT
    recorded = {
        name: dataclasses.replace(bag, competing=not bag.event and number % 3 > 0)
        for number, (name, bag) in enumerate(data.bags.items())
    }
    folds.train_fold(data, split, factories.settings(), tmp_path / "without")
    folds.train_fold(dataclasses.replace(data, bags=recorded), split, factories.settings(), tmp_path / "with")
    weights = [(tmp_path / name / "fold_0" / "weights.safetensors").read_bytes() for name in ("without", "with")]
    assert weights[0] == weights[1]
    plain, record = (storage.read_json(tmp_path / name / "fold_0" / "model.json") for name in ("without", "with"))
    hazard = record["fitted"].pop("competing_hazard")
    assert plain["fitted"] == record["fitted"]
    assert hazard == fit_competing([recorded[name] for name in split.train]).spec()
    assert len(hazard["months"]) > 1
    rows = [pd.read_csv(tmp_path / name / "fold_0" / "predictions.csv", dtype=str) for name in ("without", "with")]
    added = [name for name in rows[1] if name not in rows[0]]
    assert added == [name.replace("S_", "F_") for name in rows[0] if name.startswith("S_")]
    pd.testing.assert_frame_equal(rows[0], rows[1].drop(columns=added))


def test_levels_are_learned_from_the_training_part_and_an_unseen_one_counts_as_missing(tmp_path):
    data = staged(lambda row, stage: None if row in (1, 20) else stage)
    model, record = train_staged(data, tmp_path)
    (category,) = model.config.categories
    assert (category.levels, category.ordered) == (STAGES[:3], True)
    assert model.fitted.covariates.mean.tolist() == pytest.approx([35 / 53, 17 / 53])  # I and II: 18, III: 17
    assert set(record["reference"]["families"]["covariates"]) == {"stage>=II", "stage>=III"}
    rows = fold_files.predict(model, data.select(list(data.bags)[:2], "test"), (12.0,))
    same = dataclasses.replace(data.bags["P-000"], categories={"stage": None})
    assert fold_files.predict(model, [same], (12.0,)) == rows[:1]


def test_other_levels_in_the_test_part_do_not_change_a_bit_of_the_model(tmp_path):
    train_staged(staged(), tmp_path / "a")
    train_staged(staged(lambda row, stage: "II" if row < 6 else stage), tmp_path / "b")
    weights = [(tmp_path / name / "fold_0" / "weights.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_the_cox_model_ranks_the_stages(tmp_path):
    model, _ = train_staged(staged(), tmp_path, cox_weight=1.0)
    bag = factories.bags(60)[30]
    risks = [model.predict(bag.patches, bag.genes, (12.0,), {"stage": stage})["risk"] for stage in STAGES[:3]]
    assert risks == sorted(risks)
    assert risks[2] - risks[0] > 0.1


def test_the_identity_depends_on_levels_and_their_order():
    data = staged()
    names = list(data.bags)
    settings = factories.settings(architecture={"covariates": ["stage"]})

    def digests(changed):
        train, test = changed.select(names[6:], "train"), changed.select(names[:6], "test")
        return folds.identify(changed, train, test, settings, 0)["digests"]

    other = staged(lambda row, stage: "I" if row == 31 else stage)
    nominal = dataclasses.replace(data, ordered={})
    assert digests(other)["train"] != digests(data)["train"]
    assert digests(other)["test"] == digests(data)["test"]
    assert digests(nominal).get("ordered_levels") != digests(data)["ordered_levels"]
