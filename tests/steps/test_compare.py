"""mcti compare: numbers against scikit-survival and a bootstrap over copied rows; faults are one clear error."""

import json

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import brier_score, concordance_index_censored, integrated_brier_score
from sksurv.util import Surv

from mcti import params, redaction, storage
from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.errors import DataError
from mcti.evaluation import comparison
from mcti.steps.compare import compare, differing

MONTHS = (6.0, 12.0, 24.0)
COUNT = 140


def write(folder, rows, *, noise, seed, inputs=None, fold=None, **changed):
    """An evaluation folder of one fold, with predictions of a risk that is the truth plus noise."""
    draw, truth = np.random.default_rng(seed), np.random.default_rng(0)
    time, event = truth.exponential(20, COUNT), truth.random(COUNT) < 0.6
    risk = -time / 20 + draw.normal(0, noise, COUNT)
    scaled = (risk - risk.mean()) / risk.std()
    table = pd.DataFrame({"patient_id": [f"P{i:03d}" for i in range(COUNT)], "fold": 0, "risk": risk})
    if fold is not None:
        table["fold"] = fold
    for months in MONTHS:
        table[f"S_{months:g}"] = np.exp(-months / 25 * np.exp(0.6 * scaled))
    table = table.assign(time_months=time, event=event.astype(int), **changed).iloc[rows]
    folder.mkdir()
    table.to_csv(folder / "predictions.csv", index=False)
    groups = pd.DataFrame({"patient_id": table["patient_id"], "subtype": np.where(table.index % 2, "x", "y")})
    groups.assign(site="s").to_csv(folder / "groups.csv", index=False)
    storage.write_json(
        folder / "inputs.json", {"endpoint": "OS", "cohort": "c", "settings": {}, "data": {}, **(inputs or {})}
    )
    storage.write_json(folder / "result.json", {"notice": ""})
    return table


@pytest.fixture
def settings():
    return params.load(None, ["evaluate.bootstrap=200", "evaluate.seed=3"]).evaluate


@pytest.fixture
def two(tmp_path):
    """Two folders with 100 common patients, and their tables on these."""
    a = write(tmp_path / "a", slice(0, 120), noise=1.0, seed=1)
    b = write(tmp_path / "b", slice(20, 140), noise=0.3, seed=2)
    common = sorted(set(a["patient_id"]) & set(b["patient_id"]))
    return [table.set_index("patient_id").loc[common] for table in (a, b)]


def test_every_difference_is_that_of_scikit_survival(two, settings, tmp_path):
    """Oracle: scikit-survival 0.28.0 with the common patients as training part; no time occurs twice."""
    result = compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "out")
    assert (result.patients, result.only_a, result.only_b) == (100, 20, 20)
    a, b = two
    event, time = b["event"].to_numpy() == 1, b["time_months"].to_numpy()
    outcome = Surv.from_arrays(event, time)
    concordance = [concordance_index_censored(event, time, table["risk"])[0] for table in (a, b)]
    assert result.metrics["c_index"]["a"]["value"] == pytest.approx(concordance[0], abs=1e-12)
    assert result.metrics["c_index"]["difference"]["value"] == pytest.approx(concordance[1] - concordance[0], abs=1e-12)
    curves = [table[[f"S_{t:g}" for t in MONTHS]].to_numpy() for table in (a, b)]
    integrated = [integrated_brier_score(outcome, outcome, curve, MONTHS) for curve in curves]
    assert result.metrics["ibs"]["difference"]["value"] == pytest.approx(integrated[1] - integrated[0], abs=1e-9)
    scores = [brier_score(outcome, outcome, curve[:, 1], 12.0)[1][0] for curve in curves]
    assert result.metrics["brier_12"]["difference"]["value"] == pytest.approx(scores[1] - scores[0], abs=1e-9)


def test_the_interval_is_that_of_a_bootstrap_over_copies_of_the_patients(two, settings, tmp_path):
    """Independent computation: each resample is a table with copied rows, scored by scikit-survival."""
    result = compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "out")
    a, b = two
    event, time = b["event"].to_numpy() == 1, b["time_months"].to_numpy()
    resampled = []
    for counts in comparison.resamples(event, settings.bootstrap, settings.seed):
        rows = np.repeat(np.arange(len(event)), counts.astype(int))
        first, second = (
            concordance_index_censored(event[rows], time[rows], table["risk"].to_numpy()[rows])[0] for table in (a, b)
        )
        resampled.append(second - first)
    numbers = result.metrics["c_index"]["difference"]
    assert [numbers["low"], numbers["high"]] == pytest.approx(list(np.quantile(resampled, [0.025, 0.975])), abs=1e-9)


def test_the_same_evaluation_twice_has_no_difference(two, settings, tmp_path):
    result = compare(tmp_path / "a", tmp_path / "a", settings, tmp_path / "out")
    assert {row["difference"]["value"] for row in result.metrics.values()} == {0.0}
    assert (result.only_a, result.only_b, result.changed_follow_up) == (0, 0, 0)
    assert result.settings == result.data == {}


def test_metrics_are_those_of_an_evaluation_and_patients_of_different_folds_are_not_ranked(settings, tmp_path):
    fold = np.arange(COUNT) % 3
    a = write(tmp_path / "a", slice(None), noise=1.0, seed=1, fold=fold)
    write(tmp_path / "b", slice(None), noise=0.3, seed=2)
    result = compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "out")
    at_horizons = [f"{name}_{t:g}" for t in MONTHS for name in ("auc", "brier", "slope", "intercept", "oe", "ici")]
    assert list(result.metrics) == ["c_index", "c_within_subtype", "uno_c", *at_horizons, "ibs", "ibs_skill"]
    assert set(result.d_calibration) == {"a", "b"}
    concordant = pairs = 0
    for k in range(3):
        part = a[fold == k]
        _, right, wrong, ties, _ = concordance_index_censored(part["event"] == 1, part["time_months"], part["risk"])
        concordant, pairs = concordant + right + ties / 2, pairs + right + wrong + ties
    assert result.metrics["c_index"]["a"]["value"] == pytest.approx(concordant / pairs, abs=1e-12)


def test_what_differs_is_listed_and_counted(settings, tmp_path):
    trees = [{"settings": {"train": {"epochs": n, "seed": 1}}, "data": {"cohort": f"md5 {n}"}} for n in (5, 9)]
    write(tmp_path / "a", slice(None), noise=1.0, seed=1, inputs=trees[0])
    table = write(tmp_path / "b", slice(None), noise=0.3, seed=2, inputs=trees[1])
    table.loc[:9, "time_months"] += 1
    table.to_csv(tmp_path / "b/predictions.csv", index=False)
    result = compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "out")
    assert result.settings == {"train.epochs": (5, 9)}
    assert result.data == {"cohort": ("md5 5", "md5 9")}
    assert result.changed_follow_up == 10
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "train.epochs" in page
    assert "The follow-up of 10 common patients differs" in page
    assert json.loads((tmp_path / "out/result.json").read_text())["metrics"] == result.metrics


def test_the_page_states_competing_events_and_late_entry(settings, tmp_path):
    for name, noise in (("a", 1.0), ("b", 0.3)):
        write(tmp_path / name, slice(None), noise=noise, seed=1, entry_months=np.where(np.arange(COUNT) < 9, 0.001, 0))
    compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "late")
    page = (tmp_path / "late/report.html").read_text(encoding="utf-8")
    assert "9 patients came under observation after the origin, and count from their entry" in page
    assert "had competing events" not in page
    for name, count in (("a", 30), ("b", 30)):
        storage.write_json(tmp_path / name / "result.json", {"notice": "", "competing_events": count})
    compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "both")
    assert '<p class="faint">30 patients had competing' in (tmp_path / "both/report.html").read_text(encoding="utf-8")
    storage.write_json(tmp_path / "a/result.json", {"notice": ""})
    compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "one")
    page = (tmp_path / "one/report.html").read_text(encoding="utf-8")
    assert '<p class="faint">B: 30 patients had competing' in page
    assert "A: 0" not in page
    assert "<td>= 0" not in page


def test_leaves_of_one_tree_alone_differ():
    assert differing({"x": {"y": 1}, "z": 2}, {"x": {"y": 1}, "w": []}) == {"z": (2, None), "w": (None, [])}


def test_the_report_needs_no_other_file_and_two_runs_give_the_same_bytes(two, settings, tmp_path):
    for name in ("one", "two"):
        compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / name)
    page = (tmp_path / "one/report.html").read_bytes()
    assert page == (tmp_path / "two/report.html").read_bytes()
    assert page.count(b"<svg") == 3
    for part in (b"http://", b"https://"):
        assert part not in page.replace(b"http://www.w3.org", b"").replace(b"http://purl.org", b"").replace(
            b"http://creativecommons.org", b""
        )
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["report.html", "result.json"]


def test_an_external_validation_has_no_folds_and_no_subtypes(settings, tmp_path):
    for name, noise in (("a", 1.0), ("b", 0.3)):
        table = write(tmp_path / name, slice(None), noise=noise, seed=1)
        table.drop(columns="fold").to_csv(tmp_path / name / "predictions.csv", index=False)
        (tmp_path / name / "groups.csv").unlink()
    result = compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "out")
    assert "c_within_subtype" not in result.metrics
    assert result.metrics["c_index"]["difference"]["value"] > 0


def test_ids_are_compared_as_hashes_where_one_evaluation_is_redacted(two, settings, tmp_path):
    plain = compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "plain")
    for name in ("predictions.csv", "groups.csv"):
        table = pd.read_csv(tmp_path / "b" / name, dtype={"patient_id": str})
        table["patient_id"] = table["patient_id"].map(redaction.hashed)
        table.to_csv(tmp_path / "b" / name, index=False)
    hashed = compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "hashed")
    assert (hashed.patients, hashed.only_a) == (plain.patients, plain.only_a)
    before, after = plain.metrics["c_within_subtype"]["b"], hashed.metrics["c_within_subtype"]["b"]
    assert before["value"] == pytest.approx(after["value"])


def test_another_endpoint_no_common_patient_and_a_missing_file_are_one_clear_error(settings, tmp_path, capsys):
    write(tmp_path / "a", slice(0, 70), noise=1.0, seed=1)
    write(tmp_path / "b", slice(70, 140), noise=1.0, seed=1)
    write(tmp_path / "c", slice(None), noise=1.0, seed=1, inputs={"endpoint": "DFI"})
    with pytest.raises(DataError, match="no common patient \\(70 and 70 patients\\)"):
        compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "out")
    (tmp_path / "b/inputs.json").unlink()
    with pytest.raises(DataError, match=r"inputs\.json is missing"):
        compare(tmp_path / "a", tmp_path / "b", settings, tmp_path / "out")
    out = tmp_path / "out"
    assert run_app(app, ["compare", str(tmp_path / "a"), str(tmp_path / "c"), "--out", str(out)]) == 3
    assert "the endpoints differ: OS and DFI" in capsys.readouterr().err
    assert not out.exists()


def test_the_command_prints_one_line_per_metric(two, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_app(app, ["compare", "a", "b", "--out", "out", "--set", "evaluate.bootstrap=100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("compare: 100 common patients (")
    assert lines[0].endswith("20 in A only, 20 in B only; B minus A:")
    assert any(line.startswith("  AUC at 12 months: +") for line in lines)
    assert lines[-1] == "0 settings and 0 inputs differ: see report.html"
