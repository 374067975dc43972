import pytest

from mcti.errors import DataError, UsageError
from mcti.training import search
from mcti.training.search import Plan, Trial


def plan(**changes) -> Plan:
    starts = {
        "space": {"x": [0.01, 1.0], "kind": ["a", "b", "c"]},
        "start": {"x": 0.1, "kind": "b"},
        "folds": 3,
        "parallel_trials": 2,
        "trials": 10,
        "timeout_minutes": 0.0,
        "wilcoxon_p_threshold": 0.3,
        "seed": 5,
    }
    return Plan(**(starts | changes))


def score(settings, inner):
    """Best at x = 0.3, by 0.5 at most; every inner fold shifts all trials equally."""
    return 0.9 - abs(settings["x"] - 0.3) - (settings["kind"] == "c") * 0.1 + 0.01 * inner


def run(starts, url="sqlite://", name="s", evaluate=score, progress=lambda trials: None):
    return search.optimise(starts, url, name, lambda pairs: [evaluate(*pair) for pair in pairs], progress)


@pytest.fixture(scope="module")
def trials():
    return run(plan())


def test_all_trials_are_run_and_the_first_is_the_start(trials):
    assert [trial.number for trial in trials] == list(range(10))
    assert trials[0].settings == {"x": 0.1, "kind": "b"}
    assert {trial.state for trial in trials} <= {"complete", "pruned"}


def test_the_winner_is_complete_and_no_complete_trial_is_better(trials):
    winner = search.best(trials)
    assert winner.mean == max(trial.mean for trial in trials if trial.state == "complete")
    assert winner.mean >= trials[0].mean


def test_a_trial_behind_on_every_fold_is_pruned_after_two_and_one_ahead_never(trials):
    """Two differences of one sign give p = 1/4 in the Wilcoxon test, its smallest value for two folds."""
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert len(trial.scores) == 2
        assert trial.mean < search.best(trials).mean
    assert all(trial.state == "complete" for trial in run(plan(wilcoxon_p_threshold=0.2)))


def test_a_pruned_trial_never_wins():
    ahead = Trial(0, {}, {0: 0.99}, "pruned")
    behind = Trial(1, {}, {0: 0.5, 1: 0.5}, "complete")
    assert search.best([ahead, behind]) is behind


def test_the_trials_are_a_function_of_the_seed(trials):
    assert run(plan()) == trials
    assert run(plan(seed=6)) != trials


class Cut(Exception):
    pass


@pytest.mark.parametrize("after", [0, 3, 7, 12])
def test_a_study_interrupted_in_any_round_resumes_with_the_same_trials(trials, tmp_path, after):
    url, calls = f"sqlite:///{tmp_path / 'study.db'}", []

    def cut(settings, inner):
        calls.append(inner)
        if len(calls) > after:
            raise Cut
        return score(settings, inner)

    with pytest.raises(Cut):
        run(plan(), url, evaluate=cut)
    assert run(plan(), url) == trials
    calls.clear()
    assert run(plan(), url, evaluate=cut) == trials  # finished: nothing is scored again
    assert not calls


def test_a_diverged_trial_fails_alone():
    trials_run = run(plan(), evaluate=lambda s, k: float("nan") if s["kind"] == "a" else score(s, k))
    assert {trial.state for trial in trials_run if trial.settings["kind"] == "a"} <= {"failed"}
    assert search.best(trials_run).settings["kind"] != "a"
    with pytest.raises(DataError, match="no trial could be trained"):
        run(plan(trials=2), evaluate=lambda s, k: float("nan"))


def test_no_new_trials_are_asked_for_when_the_time_is_up():
    assert len(run(plan(timeout_minutes=1e-9))) == 2  # the first generation


def test_importance_points_at_the_setting_that_matters(trials):
    many = run(plan(trials=24, wilcoxon_p_threshold=0.0))
    shares = search.importance(many, plan().space, seed=0)
    assert shares["x"] > shares["kind"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert search.importance(trials[:2], plan().space, seed=0) == {"x": 0.0, "kind": 0.0}


@pytest.mark.parametrize("values", [[1.0], [2.0, 1.0], [0.0, 1.0], ["a", "a", "b"]])
def test_a_space_that_cannot_be_drawn_from_is_refused(values):
    with pytest.raises(UsageError, match=r"search\.space, x"):
        search.check_space({"x": values})
