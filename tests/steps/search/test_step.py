import numpy as np
import pandas as pd
import pytest
import yaml

from mcti import storage
from mcti.cohort.folds import read_folds
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError, UsageError
from mcti.params import SearchParams
from mcti.steps import train as training_step
from mcti.steps.search import searches, study_setup
from mcti.steps.search import step as step
from mcti.steps.search.best_settings import override
from tests.training import factories
from tests.training.postgres import Server

SPACE = {"learning_rate": [1e-4, 1e-2], "alpha": [0.1, 0.3, 0.6]}


def trial_job(world, split, base, settings) -> study_setup.TrialJob:
    params = override(base, dict(settings), "search.space")
    return study_setup.TrialJob(str(world[0]), str(world[1]), split, params, ("inner", split.fold))


def asked(**changes) -> SearchParams:
    return SearchParams.model_validate({"trials": 4, "epochs": 1, "space": SPACE, **changes})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return factories.folders(tmp_path_factory.mktemp("world"), patients=30)


@pytest.fixture(scope="module")
def searched(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "search"
    return step.search(*world, asked(), factories.settings(workers=1), out), out


def test_a_search_writes_its_files_and_leaves_no_work_behind(searched):
    result, out = searched
    assert sorted(path.name for path in out.iterdir()) == ["best.yaml", "importance.png", "result.json", "trials.csv"]
    assert [path.name for path in out.parent.iterdir()] == ["search"]
    assert result.trials == 4


def test_the_first_trial_has_the_present_settings_of_training(searched):
    rows = pd.read_csv(searched[1] / "trials.csv")
    assert rows.loc[0, "learning_rate"] == factories.settings().learning_rate
    assert rows.loc[0, "alpha"] == factories.settings().alpha


def test_the_best_is_the_complete_trial_with_the_highest_mean(searched):
    rows = pd.read_csv(searched[1] / "trials.csv", float_precision="round_trip")
    complete = rows[rows["state"] == "complete"]
    best = yaml.safe_load((searched[1] / "best.yaml").read_text())
    assert best["inner"]["c_index"] == complete["c_index"].max() == searched[0].c_index
    assert best["inner"]["c_index"] == pytest.approx(sum(best["inner"]["c_index_by_fold"]) / 2, abs=1e-15)


def test_the_best_settings_train_again_to_the_very_score_recorded(world, searched):
    best = yaml.safe_load((searched[1] / "best.yaml").read_text())
    parts = study_setup.inner_splits(read_folds(world[2]), 0)
    base = factories.settings(epochs=best["inner"]["epochs"])
    scores = [study_setup.score(trial_job(world, p, base, best["settings"]), Silent()) for p in parts]
    assert scores == best["inner"]["c_index_by_fold"]


class Silent:
    def progress(self, *words):
        pass

    def stop(self):
        return False


def test_no_test_patient_of_the_outer_fold_is_in_an_inner_part(world):
    split = read_folds(world[2])
    for part in study_setup.inner_splits(split, 0):
        assert not {*part.train, *part.test} & set(split.test_patients(0))
        assert sorted({*part.train, *part.test}) == split.train_patients(0)
        assert not set(part.train) & set(part.test)


class Cut(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupted_search_resumes_to_the_same_bytes(world, searched, tmp_path, after):
    """The study is kept in the work folder next to the result; its rounds are not trained again."""
    out, reports = tmp_path / "search", []

    def cut(done, *_):
        reports.append(done)
        if len(reports) == after:
            raise Cut

    with pytest.raises(Cut):
        step.search(*world, asked(), factories.settings(workers=1), out, progress=cut)
    assert (tmp_path / ".search.work" / "study.db").exists()
    assert not out.exists()
    step.search(*world, asked(), factories.settings(workers=1), out)
    assert storage.tree_md5(out) == storage.tree_md5(searched[1])


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(world, searched, tmp_path):
    step.search(*world, asked(), factories.settings(workers=2), tmp_path / "search")
    assert storage.tree_md5(tmp_path / "search") == storage.tree_md5(searched[1])


def test_a_value_that_training_refuses_is_named_before_the_first_trial(world, tmp_path):
    """Each fits its own setting, but not the other settings of train."""
    base = factories.settings(architecture={"critical": 5})
    for space, words in (
        ({"optimizer": ["adamw", "bf16_adafactor"]}, "'bf16_adafactor' for optimizer in search.space: optimizer bf16"),
        ({"preset": ["tiny", "snn"]}, "'snn' for preset in search.space: preset snn does not read critical"),
    ):
        with pytest.raises(UsageError, match=words):
            step.search(*world, asked(space=space), base, tmp_path / "search")


def test_a_setting_that_makes_training_diverge_fails_its_trial_alone(world, tmp_path):
    space = {"learning_rate": [1e-3, 1e30, 1e31]}
    result = step.search(
        *world, asked(space=space, trials=6, epochs=2), factories.settings(workers=1), tmp_path / "search"
    )
    assert result.failed > 0
    assert result.settings["learning_rate"] == 1e-3


@pytest.mark.parametrize("cox_weight", [0.5, 0.0])
def test_a_trial_that_is_found_diverged_at_scoring_fails_alone(world, tmp_path, cox_weight):
    """One step an inner fold: the loss is finite, the weights after it are not, or overflow in the forward pass."""
    base = factories.settings(workers=1, batch_patients=64, cox_weight=cox_weight)
    params = asked(space={"learning_rate": [1e-3, 1e15, 1e30]}, trials=6, wilcoxon_p_threshold=0.0)
    result = step.search(*world, params, base, tmp_path / "search")
    assert result.settings["learning_rate"] == 1e-3
    table = pd.read_csv(tmp_path / "search" / "trials.csv")
    assert set(table["state"][table["learning_rate"] == 1e30]) == {"failed"}
    assert set(table["state"][table["learning_rate"] == 1e-3]) == {"complete"}


def test_a_search_whose_trials_all_diverge_names_the_learning_rates(world, tmp_path):
    base = factories.settings(workers=1, batch_patients=64)
    with pytest.raises(DataError, match=r"2 of 2 diverged, learning_rate 1e\+3.*lower the learning_rate"):
        step.search(*world, asked(space={"learning_rate": [1e30, 1e31, 1e32]}, trials=2), base, tmp_path / "search")
    assert not (tmp_path / "search").exists()
    fixed = base.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DataError, match=r"lower train.learning_rate"):
        step.search(*world, asked(space={"alpha": [0.1, 0.3, 0.6]}, trials=2), fixed, tmp_path / "search")


def test_a_study_of_other_data_is_another_study(world):
    base = factories.settings()
    parts = [FoldSplit(0, ("P-000", "P-001"), ("P-002",))]
    one = study_setup.identity(factories.dataset(), parts, asked(), base)
    assert one == study_setup.identity(
        factories.dataset(), parts, asked(trials=99), base.model_copy(update={"workers": 5})
    )
    assert one != study_setup.identity(factories.dataset(seed=1), parts, asked(), base)
    assert one != study_setup.identity(factories.dataset(), parts, asked(seed=8), base)
    assert one != study_setup.identity(factories.dataset(), parts, asked(), base.model_copy(update={"alpha": 0.5}))


def test_every_trial_is_one_run_below_the_run_of_the_study(world, tmp_path, monkeypatch):
    """Oracle: MLflow's own client on a database, and trials.csv."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    params = asked(experiment="looked for", trials=3)
    for _ in range(2):  # the second time the study is searched again, and logged once
        result = step.search(*world, params, factories.settings(workers=1), tmp_path / "search")
    client = MlflowClient(address)
    runs = client.search_runs([client.get_experiment_by_name("looked for").experiment_id])
    parents = [run for run in runs if run.data.tags["mcti.trial"] == "all"]
    assert len(parents) == 1
    assert parents[0].data.metrics["c_index"] == result.c_index
    assert {item.path for item in client.list_artifacts(parents[0].info.run_id, "search")} >= {"search/importance.png"}
    rows = pd.read_csv(tmp_path / "search" / "trials.csv", float_precision="round_trip").set_index("trial")
    children = {int(run.data.tags["mcti.trial"]): run for run in runs if run not in parents}
    assert sorted(children) == rows.index.tolist()
    assert len(runs) == 4
    for number, run in children.items():
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert float(run.data.params["learning_rate"]) == rows.loc[number, "learning_rate"]
        assert run.data.tags["mcti.state"] == rows.loc[number, "state"]
        scores = client.get_metric_history(run.info.run_id, "c_index_inner")
        assert [score.value for score in scores] == rows.loc[number, ["inner_0", "inner_1"]].dropna().tolist()


def test_a_warm_start_tries_the_settings_of_the_champion_right_after_those_of_train(world, tmp_path):
    champion = factories.settings(workers=1, epochs=1, learning_rate=5e-3, alpha=0.6)
    training_step.train(*world, champion, tmp_path / "models")
    params = asked(warm_start=str(tmp_path / "models"), trials=3)
    step.search(*world, params, factories.settings(workers=1), tmp_path / "search")
    rows = pd.read_csv(tmp_path / "search" / "trials.csv")
    assert rows.loc[0, ["learning_rate", "alpha"]].tolist() == [
        factories.settings().learning_rate,
        factories.settings().alpha,
    ]
    assert rows.loc[1, ["learning_rate", "alpha"]].tolist() == [5e-3, 0.6]


def test_init_without_a_shared_storage_is_refused(world, tmp_path):
    with pytest.raises(UsageError, match="no study to share"):
        step.search(*world, asked(), factories.settings(workers=1), tmp_path / "search", init=True)


@pytest.mark.slow
def test_workers_in_postgresql_make_the_same_files(world, tmp_path):
    with Server() as server:
        params = asked(storage=server.url, trials=3)
        made_first = step.search(*world, params, factories.settings(workers=1), tmp_path / "search", init=True)
        assert (made_first.trials, made_first.planned) == (0, 3)
        result = step.search(*world, params, factories.settings(workers=2), tmp_path / "search")
        again = step.search(*world, params, factories.settings(workers=1), tmp_path / "again")
    assert result.trials == 3
    assert again.settings == result.settings
    assert storage.tree_md5(tmp_path / "again") == storage.tree_md5(tmp_path / "search")


@pytest.fixture(scope="module")
def nested(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("nested") / "search"
    return step.search(*world, asked(nested=True, trials=2), factories.settings(workers=1), out), out


def test_a_nested_search_finds_settings_for_each_fold_inside_its_own_training_part(world, nested, tmp_path):
    """Oracle: the search of fold 1 alone, selected by `outer_fold`."""
    result, out = nested
    numbers = read_folds(world[2]).numbers
    assert sorted(path.name for path in out.iterdir()) == ["best.yaml", *(f"fold_{k}" for k in numbers), "result.json"]
    assert [path.name for path in out.parent.iterdir()] == ["search"]
    assert list(result.folds) == numbers
    tree = yaml.safe_load((out / "best.yaml").read_text())["nested"]
    assert [tree[number]["inner"]["outer_fold"] for number in numbers] == numbers
    alone = step.search(*world, asked(outer_fold=1, trials=2), factories.settings(workers=1), tmp_path / "search")
    assert tree[1]["settings"] == alone.settings
    assert tree[1]["inner"]["c_index"] == alone.c_index


def test_the_gain_is_the_paired_difference_over_the_inner_folds(searched):
    """Nadeau and Bengio 2003 manually: variance of the mean (1 / J + 1 / (J - 1)) s², t with J - 1 degrees."""
    from scipy import stats

    result, out = searched
    rows = pd.read_csv(out / "trials.csv", float_precision="round_trip").set_index("trial")
    inner = [name for name in rows if name.startswith("inner_")]
    differences = (rows.loc[result.trial, inner] - rows.loc[0, inner]).to_numpy(dtype=float)
    assert result.gain == pytest.approx(differences.mean(), abs=1e-12)
    count = len(differences)
    half = stats.t.ppf(0.975, count - 1) * np.sqrt((1 / count + 1 / (count - 1)) * differences.var(ddof=1))
    assert result.gain_low == pytest.approx(result.gain - half, abs=1e-9)
    assert result.gain_high == pytest.approx(result.gain + half, abs=1e-9)


def test_the_rate_of_a_nested_search_excludes_what_each_of_its_searches_restored():
    """The first search restored 10 of 12 inner folds, the second none: 3 were trained by this process."""
    reports, restored = [], {}
    for done, fold in enumerate((0, 1)):
        report = searches._FoldProgress(lambda *words: reports.append(words), done, 2, fold, restored)
        report(12 if fold == 0 else 1, 12, "inner folds", "best C 0.600", 10 if fold == 0 else 0)
    assert [(words[0], words[1], words[4]) for words in reports] == [(12, 24, 10), (13, 24, 10)]
    assert reports[-1][3] == "outer fold 1, best C 0.600"
