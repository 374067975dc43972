"""The step on a small cohort with real files: its output and its errors."""

import json
import shutil
from html.parser import HTMLParser

import h5py
import numpy as np
import pandas as pd
import pytest

from mcti.cohort import tables
from mcti.errors import DataError, UsageError
from mcti.evaluation import metrics
from mcti.params import EvaluateParams
from mcti.steps.evaluate.step import evaluate
from tests.evaluation.factories import make_folds, make_patients

NOTICE = "painted slides: <not> a clinical result"
PARAMS = EvaluateParams(
    bootstrap=100,
    horizons_months=(12.0, 36.0),
    baselines=("kaplan_meier", "cox_clinical", "cox_clinical_genes", "linear_all"),
)


def make_project(root, count: int = 80, folds: int = 4, repeats: int = 1) -> None:
    """cohort/, features/, folds.csv and models/fold_<k>/predictions.csv whose risk is the true one plus noise."""
    patients = make_patients(count)
    x = patients.pop("x").to_numpy()
    generator = np.random.default_rng(1)
    patients.insert(1, "cohort", "made")
    genes = pd.DataFrame(generator.normal(size=(count, 12)) + x[:, None], index=patients["patient_id"]).add_prefix("G")
    slides = pd.DataFrame({"patient_id": patients["patient_id"], "slide_id": patients["patient_id"] + "_1"})
    slides = slides.assign(path="unread.svs", mpp=0.5, md5=None, stain="HE")
    info = tables.CohortInfo(
        name="made", notice=NOTICE, endpoint="OS", expression_scale="log2", covariates=(), sources={},
        counts={"patients": count}, attrition=(tables.ExcludedPatient(patient_id="Q", reason="no follow-up"),),
    )  # fmt: skip
    for name in ("cohort", "features"):
        (root / name).mkdir()
    tables.write(tables.Cohort(patients, genes.astype(np.float32), slides, info), root / "cohort")
    for slide in slides["slide_id"][3:]:  # the first three patients have no features
        with h5py.File(root / "features" / f"{slide}.h5", "w") as file:
            file["features"] = generator.normal(size=(9, 30)).astype(np.float32)
            file["coords"] = np.zeros((9, 2), dtype=np.int64)
    rows, row = [], {p: i for i, p in enumerate(patients["patient_id"])}
    for k, (train, test) in make_folds(patients, folds, repeats).items():
        rows += [(p, k, "train", i % 2) for i, p in enumerate(train)] + [(p, k, "test", None) for p in test]
        risk = x[[row[p] for p in test]] + generator.normal(size=len(test)) + 5 * k
        frame = pd.DataFrame({"patient_id": test, "fold": k, "risk": risk})
        frame["S_12"] = np.exp(-0.2 * np.exp(risk - 5 * k))
        frame["S_36"] = np.exp(-0.6 * np.exp(risk - 5 * k))
        (root / "models" / f"fold_{k}").mkdir(parents=True)
        frame.to_csv(root / "models" / f"fold_{k}" / "predictions.csv", index=False)
    frame = pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner"]).astype({"inner": "Int64"})
    frame.sort_values(["fold", "patient_id"]).to_csv(root / "folds.csv", index=False)


def run(root, params=PARAMS, out="out", features="features", **more):
    folder = None if features is None else root / features
    return evaluate(root / "cohort", folder, root / "folds.csv", root / "models", params, root / out, **more)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in a folder with a space in its name, evaluated once."""
    root = tmp_path_factory.mktemp("a project")
    make_project(root)
    run(root)
    return root


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_it_writes_all_files_with_the_same_bytes_on_every_run(project):
    reports = []
    first = files(project / "out")
    wanted = {
        "inputs.json",
        "metrics.json",
        "summary.json",
        "result.json",
        "predictions.csv",
        "baselines.csv",
        "report.html",
    }
    assert wanted <= set(first)
    assert {"figures/c_index.svg", "figures/kaplan_meier.png", "plots/km.csv", "plots/c_index_by_fold.csv"} <= set(
        first
    )
    (project / "out" / "left_over.txt").write_text("of an older version")
    run(project, progress=lambda *step: reports.append(step))
    assert reports == [*((i, 4, "baselines", name) for i, name in enumerate(PARAMS.baselines)), (4, 4, "baselines")]
    assert files(project / "out") == first
    assert not any(str(project).encode() in content for content in first.values())


def test_metrics_contain_every_model_with_intervals_and_the_comparison(project):
    metrics_json = json.loads((project / "out" / "metrics.json").read_text())
    assert list(metrics_json) == sorted(["mcti", *PARAMS.baselines])
    for numbers in metrics_json.values():
        c = numbers["c_index"]
        assert 0 <= c["low"] <= c["value"] <= c["high"] <= 1
        assert len(numbers["folds"]) == 4
    assert set(metrics_json["mcti"]["comparison"]) == set(PARAMS.baselines)
    entry = metrics_json["mcti"]["comparison"]["cox_clinical"]
    gap = metrics_json["mcti"]["c_index"]["value"] - metrics_json["cox_clinical"]["c_index"]["value"]
    assert entry["difference"]["value"] == pytest.approx(gap, abs=1e-12)
    assert entry["difference"]["low"] <= gap <= entry["difference"]["high"]
    assert metrics_json["mcti"]["comparison"]["cox_clinical_genes"]["primary"] is True


def test_mcti_has_risk_groups_subgroups_and_decision_curve(project):
    ours = json.loads((project / "out" / "metrics.json").read_text())["mcti"]
    assert sum(ours["risk_groups"]["sizes"].values()) == 80
    gain = ours["risk_groups"]["rmst_months"]
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert gain["value"] > 0  # the made risk is a good one
    assert {"subtype A", "subtype B", "women", "men"} <= {group["name"] for group in ours["subgroups"]}
    assert ours["decision"]["baseline"] == PARAMS.primary_baseline
    assert all(row["low"] <= row["mcti"] <= row["high"] for row in ours["decision"]["rows"])
    assert 0 <= ours["d_calibration"]["p"] <= 1
    assert ours["c_within_subtype"]["value"] > 0.5


def test_the_reported_c_can_be_computed_from_the_predictions_file(project):
    frame = pd.read_csv(project / "out" / "predictions.csv")
    by_hand, pairs = 0.0, 0
    for _, part in frame.groupby("fold"):
        event, time, risk = part["event"].to_numpy() == 1, part["time_months"].to_numpy(), part["risk"].to_numpy()
        count = int(((time[:, None] < time) & event[:, None]).sum())
        by_hand, pairs = by_hand + count * metrics.harrell_c(event, time, risk), pairs + count
    c_index = json.loads((project / "out" / "metrics.json").read_text())["mcti"]["c_index"]["value"]
    assert c_index == pytest.approx(by_hand / pairs, abs=1e-12)


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.loads, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in {"src", "href", "xlink:href"} and not v.startswith(("#", "data:"))]

    def handle_data(self, data):
        self.text += data


def test_the_report_is_self_contained_and_shows_notice_figures_and_events(project):
    page = _Page()
    source = (project / "out" / "report.html").read_text()
    page.feed(source)
    assert page.loads == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 7  # the forest by fold and site, and the flow of the patients, are two of them
    assert NOTICE in page.text
    assert "<not>" not in source
    assert "no follow-up" in page.text
    assert "events" in page.text


def test_without_features_slide_baselines_are_left_out_with_a_warning(project):
    result = run(project, out="genes alone", features=None)
    assert result.skipped == {"linear_all": "no slide features were passed"}
    assert "Cox: clinical + genes + slides was left out" in (project / "genes alone" / "report.html").read_text()


def test_repeats_are_scored_together(tmp_path):
    make_project(tmp_path, count=60, folds=2, repeats=2)
    result = run(tmp_path, EvaluateParams(bootstrap=100, horizons_months=(12.0,), baselines=("cox_clinical",),
                                          primary_baseline="cox_clinical"))  # fmt: skip
    assert result.folds == 4
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 120


def test_a_fold_without_events_is_reported(project, tmp_path):
    shutil.copytree(project, tmp_path / "p")
    patients = pd.read_parquet(tmp_path / "p" / "cohort" / "patients.parquet")
    folds = pd.read_csv(project / "folds.csv")
    test = folds.loc[(folds["fold"] == 1) & (folds["role"] == "test"), "patient_id"]
    patients.loc[patients["patient_id"].isin(test), "event"] = 0
    patients.to_parquet(tmp_path / "p" / "cohort" / "patients.parquet")
    run(tmp_path / "p", PARAMS.model_copy(update={"baselines": ("cox_clinical",), "primary_baseline": "cox_clinical"}))
    fold = json.loads((tmp_path / "p" / "out" / "metrics.json").read_text())["mcti"]["folds"][1]
    assert fold == {"fold": 1, "patients": 20, "events": 0, "c_index": None}
    assert "have no event" in (tmp_path / "p" / "out" / "report.html").read_text()


def test_bad_input_leaves_the_previous_report_unchanged(project):
    before = files(project / "out")
    broken = PARAMS.model_copy(update={"horizons_months": (12.0, 36.0, 60.0)})
    with pytest.raises(DataError, match=r"'S_60' is missing.*set evaluate\.horizons_months"):
        run(project, broken)
    with pytest.raises(UsageError, match="did you mean cox_clinical"):
        run(project, PARAMS.model_copy(update={"baselines": ("cox_clinicl",)}))
    (project / "empty").mkdir()
    with pytest.raises(DataError, match="no slide of the cohort has features"):
        run(project, features="empty")
    assert files(project / "out") == before
