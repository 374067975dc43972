import dataclasses
import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch

from mcti import storage
from mcti.dataset.bags import Dataset
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError, UsageError
from mcti.steps.search.best_settings import override
from mcti.steps.train import train
from mcti.training import fold_files
from mcti.training import folds as training
from tests.polling import wait_for_file
from tests.training import factories

FILES = ("weights.safetensors", "model.json", "predictions.csv", "history.csv")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return factories.folders(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "folds"
    return train(*world, factories.settings(workers=1), out), out


LONG = 24  # epochs: the run lasts for many checkpoints after its first one


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    """MD5 of the folder of an undisturbed long run with one worker."""
    out = tmp_path_factory.mktemp("undisturbed") / "folds"
    train(*world, factories.settings(workers=1, epochs=LONG), out)
    return storage.tree_md5(out)


def test_every_fold_has_its_four_files_and_no_others_remain(trained):
    result, out = trained
    assert result.folds == (0, 1)
    assert sorted(path.name for path in out.iterdir()) == ["fold_0", "fold_1", "result.json"]
    assert sorted(path.name for path in (out / "fold_0").iterdir()) == sorted(FILES)


def test_each_patient_is_predicted_once_and_survival_falls_with_time(trained):
    rows = pd.concat(pd.read_csv(path) for path in sorted(trained[1].glob("fold_*/predictions.csv")))
    assert list(rows.columns) == ["patient_id", "fold", "risk", "S_12", "S_36", "S_60", "P_IDC", "P_ILC"]
    assert sorted(rows["patient_id"]) == [bag.patient_id for bag in factories.bags()]
    assert ((rows["S_12"] >= rows["S_36"]) & (rows["S_36"] >= rows["S_60"])).all()
    assert rows[["S_12", "S_60"]].to_numpy().min() >= 0
    assert rows[["S_12", "S_60"]].to_numpy().max() <= 1


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(world, trained, tmp_path):
    train(*world, factories.settings(workers=2), tmp_path / "folds")
    assert storage.tree_md5(tmp_path / "folds") == storage.tree_md5(trained[1])


def test_a_loaded_fold_predicts_the_very_bits_of_its_file(world, trained):
    model = fold_files.load(trained[1] / "fold_0")
    rows = pd.read_csv(trained[1] / "fold_0" / "predictions.csv", float_precision="round_trip").set_index("patient_id")
    for bag in factories.bags():
        if bag.patient_id in rows.index:
            assert model.predict(bag.patches, bag.genes, (12,))["risk"] == rows.loc[bag.patient_id, "risk"]


def test_finished_folds_are_kept_and_a_new_setting_trains_them_again(world, tmp_path):
    out = tmp_path / "folds"
    train(*world, factories.settings(workers=1, epochs=1), out)
    before = (out / "fold_0" / "weights.safetensors").stat().st_ino
    train(*world, factories.settings(workers=1, epochs=1), out)
    assert (out / "fold_0" / "weights.safetensors").stat().st_ino == before
    train(*world, factories.settings(workers=1, epochs=1, learning_rate=2e-3), out)
    assert (out / "fold_0" / "weights.safetensors").stat().st_ino != before


def test_one_fold_alone_leaves_the_others_as_they_are(world, trained, tmp_path):
    out = tmp_path / "folds"
    result = train(*world, factories.settings(workers=1), out, fold=1)
    assert result.folds == (1,)
    assert storage.tree_md5(out / "fold_1") == storage.tree_md5(trained[1] / "fold_1")
    with pytest.raises(UsageError, match="there is no fold 9"):
        train(*world, factories.settings(workers=1), out, fold=9)


def test_one_fold_alone_leaves_the_checkpoints_of_the_others(world, tmp_path):
    """Folds trained by separate processes into one folder, as on several machines; the first to end tidies up."""
    out = tmp_path / "folds"
    kept = out / ".work" / "fold_1" / "step_000000001.checkpoint"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"of a run that was paused")
    train(*world, factories.settings(workers=1, epochs=1), out, fold=0)
    assert kept.is_file()
    assert not (out / ".work" / "fold_0").exists()


def test_folds_that_the_split_no_longer_has_are_taken_away(world, tmp_path):
    out = tmp_path / "folds"
    (out / "fold_7").mkdir(parents=True)
    train(*world, factories.settings(workers=1, epochs=1), out)
    assert sorted(path.name for path in out.glob("fold_*")) == ["fold_0", "fold_1"]


def test_test_patients_leave_everything_fitted_bit_identical(world, trained, tmp_path):
    """Protocol 5: other outcomes and features of the test part change no weight, no scale and no bin."""
    data = factories.dataset()
    rows = pd.read_csv(trained[1] / "fold_0" / "predictions.csv")
    test = tuple(rows["patient_id"])
    part = FoldSplit(0, tuple(sorted(set(data.bags) - set(test))), test)
    other = factories.dataset(seed=99)
    changed = {name: (other if name in test else data).bags[name] for name in data.bags}
    training.train_fold(data, part, factories.settings(), tmp_path / "a")
    training.train_fold(Dataset(changed, data.genes, data.classes), part, factories.settings(), tmp_path / "b")
    one, two = (storage.read_json(tmp_path / side / "fold_0" / "model.json") for side in "ab")
    assert one["fitted"] == two["fitted"]
    weights = [(tmp_path / side / "fold_0" / "weights.safetensors").read_bytes() for side in "ab"]
    assert weights[0] == weights[1]
    assert one["digests"]["test"] != two["digests"]["test"]


def test_a_cohort_without_slides_trains_on_genes(world, tmp_path):
    cohort, _, folds = world
    train(cohort, None, folds, factories.settings(workers=1, epochs=1), tmp_path / "folds")
    assert (tmp_path / "folds" / "fold_1" / "predictions.csv").is_file()


def test_the_winner_of_a_search_overrides_settings_by_dotted_path(tmp_path):
    changed = override(
        factories.settings(), {"learning_rate": 0.5, "architecture.width": 8, "bins.count": 3}, "best.yaml"
    )
    assert (changed.learning_rate, changed.architecture.changes(), changed.bins.count) == (0.5, {"width": 8}, 3)
    with pytest.raises(UsageError, match="did you mean learning_rate"):
        override(factories.settings(), {"learnin_rate": 0.5}, "best.yaml")


def test_a_best_file_that_is_none_is_refused(world, tmp_path):
    (tmp_path / "best.yaml").write_text("- 1\n")
    with pytest.raises(DataError, match="no `settings` to read"):
        train(*world, factories.settings(), tmp_path / "folds", best=tmp_path / "best.yaml")


SCRIPT = f"""
import sys
from pathlib import Path
from mcti.steps.train import train
from tests.polling import wait_for_file
from tests.training import factories
root = Path(sys.argv[1])
try:
    train(root / "cohort", root / "features", root / "folds.csv",
          factories.settings(workers=int(sys.argv[3]), epochs={LONG}, checkpoint_seconds=0.05), Path(sys.argv[2]))
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}", flush=True)
    sys.exit(getattr(error, "exit_code", 1))
"""


def _start(world, out, workers):
    arguments = [sys.executable, "-c", SCRIPT, str(world[0].parent), str(out), str(workers)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_saves_and_sigkill_loses_nothing(world, undisturbed, tmp_path, workers):
    """Oracle: the bytes of an undisturbed run with one worker."""
    out = tmp_path / "disturbed"
    for blow in (signal.SIGKILL, signal.SIGTERM):
        process = _start(world, out, workers)
        wait_for_file(out, ".work/fold_*/*.checkpoint", process)
        process.send_signal(blow)
        stderr = process.communicate()[0]
        if blow == signal.SIGTERM:
            assert process.returncode == 0
            assert "Paused: paused after step" in stderr
    assert list(out.glob(".work/fold_*/*.checkpoint"))
    process = _start(world, out, workers)
    assert process.wait() == 0
    assert storage.tree_md5(out) == undisturbed
    assert not (out / ".work").exists()


@pytest.mark.slow
def test_a_task_retried_in_an_empty_folder_resumes_from_the_killed_one(world, undisturbed, tmp_path, monkeypatch):
    """As in another pod, with a volume that outlives both. Oracle: the bytes of an undisturbed run."""
    lasting, settings = tmp_path / "claim", factories.settings(workers=1, epochs=LONG)
    monkeypatch.setenv("MCTI_CHECKPOINTS", str(lasting))
    monkeypatch.setenv("MCTI_RUN", "run-7")
    process = _start(world, tmp_path / "first pod", 1)
    wait_for_file(lasting, "run-7/*/*.checkpoint", process)
    process.kill()
    process.communicate()
    left = sorted(lasting.glob("run-7/*/*.checkpoint"))
    assert left
    states = []
    train(*world, settings, tmp_path / "second pod", progress=lambda done, *_: states.append(done))
    assert min(states) > int(left[-1].stem.removeprefix("step_")), "it did not start again"
    assert storage.tree_md5(tmp_path / "second pod") == undisturbed
    assert not list(lasting.rglob("*.checkpoint"))


@pytest.mark.slow
def test_workers_die_with_a_killed_parent(world, tmp_path):
    import psutil

    process = _start(world, tmp_path / "out", 2)
    wait_for_file(tmp_path / "out", ".work/fold_*/*.checkpoint", process)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=300)
    assert gone
    assert not alive


def test_a_model_with_modality_dropout_is_predicted_in_each_regime(world, tmp_path):
    train(*world, factories.settings(workers=1, modality_dropout=0.4), tmp_path / "folds", fold=0)
    rows = pd.read_csv(tmp_path / "folds" / "fold_0" / "regimes.csv", float_precision="round_trip")
    both = pd.read_csv(tmp_path / "folds" / "fold_0" / "predictions.csv").set_index("patient_id")
    model = fold_files.load(tmp_path / "folds" / "fold_0")
    bags = {bag.patient_id: bag for bag in factories.bags()}
    assert sorted(rows["patient_id"]) == sorted([*both.index] * 2)
    for row in rows.itertuples():
        bag = bags[row.patient_id]
        only = (bag.patches, None) if row.regime == "slides_only" else (None, bag.genes)
        assert row.risk == model.predict(*only, (12,))["risk"] != both.loc[row.patient_id, "risk"]


@pytest.mark.parametrize("modality", ["slides", "genes"])
def test_a_model_of_one_modality_leaves_the_other_aside(world, tmp_path, modality):
    train(*world, factories.settings(workers=1, modalities=modality), tmp_path / "folds", fold=0)
    model = fold_files.load(tmp_path / "folds" / "fold_0")
    bag = factories.bags()[3]
    alone = (bag.patches, None) if modality == "slides" else (None, bag.genes)
    assert model.config.modalities == (modality,)
    assert model.predict(bag.patches, bag.genes, (12,)) == model.predict(*alone, (12,))
    assert not (tmp_path / "folds" / "fold_0" / "regimes.csv").exists()
    other = (None, bag.genes) if modality == "slides" else (bag.patches, None)
    with pytest.raises(DataError, match=f"no {modality}, and the model has no other inputs"):
        model.predict(*other, (12,))


def test_a_profile_of_the_first_fold_is_written(world, tmp_path):
    train(*world, factories.settings(workers=1), tmp_path / "folds", fold=0, profile=tmp_path / "trace.json")
    assert '"traceEvents"' in (tmp_path / "trace.json").read_text()
    with pytest.warns(training.NothingToProfile, match="fold 0 is finished"):
        train(*world, factories.settings(workers=1), tmp_path / "folds", fold=0, profile=tmp_path / "again.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patches": torch.zeros(0, factories.WIDTH)}, r"a bag without a patch .*fold 0, patient P-020"),
        ({"patches": torch.full((3, factories.WIDTH), torch.nan)}, r"row 0 of the features is NaN .*patient P-020"),
        ({"patches": torch.zeros(3, factories.WIDTH + 1)}, r"features of shape \(3, 7\), not \(N, 6\).*patient P-020"),
        ({"genes": None}, r"no genes, and the model was trained on patients with both.*patient P-020"),
    ],
)
def test_a_test_patient_who_cannot_be_predicted_is_refused_before_a_step_is_trained(tmp_path, changes, message):
    data, steps = factories.dataset(24), []
    names = sorted(data.bags)
    broken = dataclasses.replace(data, bags={**data.bags, "P-020": dataclasses.replace(data.bags["P-020"], **changes)})
    part = FoldSplit(0, tuple(names[:16]), tuple(names[16:]))
    with pytest.raises(DataError, match=message):
        training.train_fold(broken, part, factories.settings(), tmp_path, progress=lambda *step: steps.append(step))
    assert steps == []
    assert not (tmp_path / "fold_0").exists()
