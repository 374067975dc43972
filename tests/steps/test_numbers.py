"""Every number of a report against tests/steps/recompute.py, which reads the CSV files of the evaluation only.

The cohort has exclusions at every step, follow-up in whole months (ties), missing ages and a covariate with missing
values; tests/steps/test_counts.py checks the counts.
"""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test

from mcti.model.names import display
from mcti.registry.dossier_results import FIGURES
from tests.steps import recompute
from tests.steps.test_counts import cells, run

ROOT = Path(__file__).resolve().parents[2]
HORIZONS = [12.0, 24.0]
MODELS = ("mcti", "kaplan_meier", "cox_clinical")
ROUNDED = 0.0005 + 1e-6  # three decimals


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("numbers")
    run(root, "stratified", tuple(HORIZONS), MODELS[1:])
    return root


@pytest.fixture(scope="module")
def page(project):
    return (project / "out" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def clinical(project):
    return pd.read_csv(project / "clinical.csv")


@pytest.fixture(scope="module")
def trained(project, clinical):
    return recompute.training_parts(pd.read_csv(project / "folds.csv"), clinical)


@pytest.fixture(scope="module")
def models(project, clinical):
    """{model: its out-of-fold rows with outcome and clinical columns}, from predictions.csv and baselines.csv."""
    mcti = pd.read_csv(project / "out" / "predictions.csv")
    outcome = mcti[["patient_id", "time_months", "event"]]
    described = clinical.drop(columns=["time_months", "event"])
    others = pd.read_csv(project / "out" / "baselines.csv")
    tables = {"mcti": mcti.drop(columns=["time_months", "event"])}
    tables |= {str(name): rows.drop(columns="model") for name, rows in others.groupby("model")}
    return {
        name: rows.merge(outcome, on="patient_id").merge(described, on="patient_id") for name, rows in tables.items()
    }


def shown(page: str, section: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in cells(page, section)}


def value(cell: str) -> float:
    return float(cell.split()[0])


def ends(cell: str) -> tuple[float, float]:
    low, high = re.search(r"\[(\S+), (\S+)\]", cell).groups()
    return float(low), float(high)


def ibs(rows, trained) -> float:
    return recompute.integrated([recompute.brier(rows, trained, t) for t in HORIZONS], HORIZONS)


@pytest.mark.parametrize("model", MODELS)
def test_the_table_of_models(page, models, trained, model):
    rows = models[model]
    reference = recompute.integrated([recompute.kaplan_meier_brier(rows, trained, t) for t in HORIZONS], HORIZONS)
    expected = [recompute.pair_mean(rows, trained, metric) for metric in ("harrell", "subtype", "uno")]
    expected += [recompute.pair_mean(rows, trained, "auc", t) for t in HORIZONS]
    expected += [ibs(rows, trained), 1 - ibs(rows, trained) / reference]
    assert [value(cell) for cell in shown(page, "models")[display(model)]] == pytest.approx(expected, abs=ROUNDED)


@pytest.mark.parametrize("model", ["mcti", "cox_clinical"])
def test_the_table_of_calibration(page, models, trained, model):
    expected = recompute.calibration(models[model], trained, HORIZONS[-1])
    row = shown(page, "calibrated")[display(model)]
    for name, cell in zip(("slope", "intercept", "ici"), row, strict=False):
        assert value(cell) == pytest.approx(expected[name], abs=ROUNDED), name
    p = recompute.d_calibration_p(models[model], HORIZONS)
    assert row[3] == "< 0.001" if p < 0.0005 else float(row[3]) == pytest.approx(p, abs=ROUNDED)


@pytest.mark.parametrize("model", MODELS[1:])
def test_the_comparison_and_its_fold_corrected_interval(page, models, trained, model):
    ours, other = models["mcti"], models[model]
    row = next(cells for name, cells in shown(page, "comparison").items() if name.startswith(display(model)))
    difference = recompute.pair_mean(ours, trained, "harrell") - recompute.pair_mean(other, trained, "harrell")
    assert value(row[0]) == pytest.approx(difference, abs=ROUNDED)
    assert value(row[4]) == pytest.approx(ibs(ours, trained) - ibs(other, trained), abs=ROUNDED)
    by_fold = np.array([
        recompute.pair_mean(ours[ours["fold"] == k], trained, "harrell")
        - recompute.pair_mean(other[other["fold"] == k], trained, "harrell")
        for k in sorted(trained)
    ])  # fmt: skip
    share = float(np.mean([(ours["fold"] == k).sum() / len(part[0]) for k, part in trained.items()]))
    mean, low, high, p = recompute.corrected_t(by_fold, share)
    assert value(row[3]) == pytest.approx(mean, abs=ROUNDED)
    assert ends(row[3]) == pytest.approx((low, high), abs=ROUNDED)
    assert float(row[3].rsplit("= ", 1)[1]) == pytest.approx(p, abs=ROUNDED)


def test_the_intervals_are_percentiles_over_copied_patients(page, models, trained, clinical):
    """100 resamples of seed 7; a copied patient is weighted by the number of copies."""
    rows = models["mcti"].sort_values(["fold", "patient_id"]).reset_index(drop=True)
    event = rows.drop_duplicates("patient_id").set_index("patient_id")["event"]
    order = [name for name in clinical["patient_id"] if name in event.index]
    random, n = np.random.default_rng(7), len(order)
    dead = np.array([i for i, name in enumerate(order) if event[name]])
    alive = np.setdiff1d(np.arange(n), dead)
    stratified = np.zeros((100, n))
    for stratum in (dead, alive):
        stratified[:, stratum] = random.multinomial(len(stratum), np.full(len(stratum), 1 / len(stratum)), size=100)
    position = rows["patient_id"].map({name: i for i, name in enumerate(order)}).to_numpy()
    right, total = _pairs(rows)
    weight = stratified[:, position]
    c = [w @ right @ w / (w @ total @ w) for w in weight]
    assert ends(shown(page, "models")["MCTI"][0]) == pytest.approx(tuple(np.quantile(c, [0.025, 0.975])), abs=ROUNDED)
    simple = np.random.default_rng(7).multinomial(n, np.full(n, 1 / n), size=100)[:, position]
    errors = {t: _brier_rows(rows, trained, t) for t in HORIZONS}
    score = [recompute.integrated([float(w @ errors[t] / w.sum()) for t in HORIZONS], HORIZONS) for w in simple]
    low, high = np.quantile(score, [0.025, 0.975])
    assert ends(shown(page, "models")["MCTI"][5]) == pytest.approx((low, high), abs=ROUNDED)


def _pairs(rows) -> tuple[np.ndarray, np.ndarray]:
    """(m, m) score and orderability of every pair of rows of one fold."""
    time, event, risk, fold = (rows[name].to_numpy() for name in ("time_months", "event", "risk", "fold"))
    later = (time[:, None] < time) | ((time[:, None] == time) & (event == 0))
    total = ((event == 1)[:, None] & later & (fold[:, None] == fold)).astype(float)
    return total * ((risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)), total


def _brier_rows(rows, trained, months) -> np.ndarray:
    had, weight = recompute.status(rows, trained, months)
    survival = rows[f"S_{months:g}"].to_numpy()
    return weight * np.where(had == 1, survival, 1 - survival) ** 2


def test_risk_groups_log_rank_and_restricted_mean(project, page, models):
    rows = models["mcti"]
    group = recompute.risk_groups(rows)
    low, high = rows[group == 0], rows[group == 1]
    assert f"low {len(low)}, high {len(high)} patients" in page
    p = logrank_test(low["time_months"], high["time_months"], low["event"], high["event"]).p_value
    assert f"log-rank p = {p:.3f}" in page
    months = min(HORIZONS[-1], low["time_months"].max(), high["time_months"].max())
    gain = recompute.restricted_mean(low, months) - recompute.restricted_mean(high, months)
    assert re.search(rf"Up to month {months:g}.* on average {gain:.1f} \[", page)
    curves = pd.read_csv(project / "out" / "plots" / "km.csv")
    for name, part in (("low", low), ("high", high)):
        fitted = KaplanMeierFitter().fit(part["time_months"], part["event"])
        steps = curves[(curves["group"] == name) & (curves["months"] > 0)]
        np.testing.assert_allclose(steps["survival"], fitted.predict(steps["months"].to_numpy()), atol=1e-9)
        assert steps["at_risk"].tolist() == [int((part["time_months"] >= t).sum()) for t in steps["months"]]


def test_calibration_figure_and_brier_scores_over_time(project, models, trained):
    points = pd.read_csv(project / "out" / "plots" / "calibration.csv")
    over_time = pd.read_csv(project / "out" / "plots" / "over_time.csv").set_index(["model", "months"])
    for t in HORIZONS:
        ordered = (
            models["mcti"].sort_values(["fold", "patient_id"]).sort_values(f"S_{t:g}", ascending=False, kind="stable")
        )
        fifths = [ordered.iloc[part] for part in np.array_split(np.arange(len(ordered)), 5)]
        for point, fifth in zip(points[points["months"] == t].itertuples(), fifths, strict=True):
            assert point.predicted == pytest.approx(1 - fifth[f"S_{t:g}"].mean(), abs=1e-9)
            if fifth["time_months"].max() < t:
                assert math.isnan(point.observed)
                continue
            fitted = KaplanMeierFitter().fit(fifth["time_months"], fifth["event"])
            assert point.observed == pytest.approx(1 - fitted.predict(t), abs=1e-9)
        for name, rows in models.items():
            assert over_time.loc[(name, t), "brier"] == pytest.approx(recompute.brier(rows, trained, t), abs=1e-9)
            area = recompute.pair_mean(rows, trained, "auc", t)
            assert over_time.loc[(name, t), "auc"] == pytest.approx(area, abs=1e-9)


def test_the_decision_curve_at_every_threshold(project, models, trained):
    table, months = pd.read_csv(project / "out" / "plots" / "decision.csv"), HORIZONS[-1]
    assert len(table) > 5
    for row in table.to_dict("records"):
        ours, baseline, everyone = (
            recompute.net_benefit(models[name], trained, months, row["threshold"], treat_all=treat_all)
            for name, treat_all in (("mcti", False), ("cox_clinical", False), ("mcti", True))
        )
        assert (row["mcti"], row["baseline"], row["all"]) == pytest.approx((ours, baseline, everyone), abs=1e-9)
        assert row["difference"] == pytest.approx(ours - baseline, abs=1e-9)


def test_the_sentences_at_the_top_repeat_the_tables(page, models, trained):
    calibration = recompute.calibration(models["mcti"], trained, HORIZONS[-1])
    sentence = re.search(r"Calibration at month 24: slope (\S+) .*intercept (\S+) .*ICI (\S+) .*score (\S+) ", page)
    expected = [*calibration.values(), ibs(models["mcti"], trained)]
    assert [float(number) for number in sentence.groups()] == pytest.approx(expected, abs=ROUNDED)
    slopes = {t: recompute.calibration(models["mcti"], trained, t)["slope"] for t in HORIZONS}
    poor = ", ".join(f"{slope:.2f} at month {t:g}" for t, slope in slopes.items() if not 0.7 <= slope <= 1.4)
    assert f"Poor calibration: slope {poor}, outside 0.7 to 1.4" in page


def test_the_missing_values_of_table_1_do_not_enter_its_percentages(page, models):
    rows = models["mcti"]
    table = shown(page, "patients")
    known = rows["grade"].dropna()
    assert table["grade G1, n (%)"][0] == f"{(known == 'G1').sum()} ({100 * (known == 'G1').mean():.1f})"
    assert table["grade missing, n"][0] == str(len(rows) - len(known))
    assert table["age, median [quartiles]"][0].endswith(f", {rows['age'].isna().sum()} missing")


def test_the_documentation_names_every_section_figure_and_table(project, page):
    """docs/evaluation.md states patients, data and method of each."""
    described = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    figures = {f"{path.stem}.svg" for path in (project / "out" / "figures").glob("*.svg")} | {"learning.svg"}
    tables = {path.name for path in (project / "out" / "plots").glob("*.csv")}
    template = (ROOT / "mcti" / "evaluation" / "report.html").read_text(encoding="utf-8")
    sections = {f"#{name}" for name in re.findall(r'<h2 id="(\w+)"', template)}
    assert len(figures) >= 7
    assert len(sections) >= 13
    assert {name for name in figures | tables | sections if f"`{name}`" not in described} == set()


def test_the_figures_of_the_dossier_are_written_by_the_evaluation(project):
    assert set(FIGURES) <= {path.stem for path in (project / "out" / "figures").glob("*.svg")}
