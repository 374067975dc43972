import dataclasses
from pathlib import Path

import pytest

from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError
from mcti.training import folds
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
