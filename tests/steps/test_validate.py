"""The step `validate` on cohorts: report, results, failures, drift; and the public cohorts."""

import json
import shutil
from pathlib import Path

import pytest

from mcti import storage
from mcti.cohort import tables
from mcti.demo import public_cohort
from mcti.errors import DataError
from mcti.params import IngestParams, SplitParams, ValidateParams
from mcti.registry import tracking
from mcti.steps.ingest import ingest
from mcti.steps.split import split
from mcti.steps.validate import validate
from tests.cohort import cases

TCGA = Path(__file__).parents[3] / "shared" / "data" / "tcga"
SMALL = ValidateParams(min_events=5, min_events_per_fold=0)


@pytest.fixture
def cohort(tmp_path):
    return cases.write_cohort(cases.sources(patients=60), tmp_path / "cohort")


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """A cohort that meets the contract, its report, the result and the reports of progress."""
    root, calls = tmp_path_factory.mktemp("valid"), []
    cohort = cases.write_cohort(cases.sources(patients=60), root / "cohort")
    result = validate(cohort, SMALL, root / "report", progress=lambda *arguments: calls.append(arguments))
    return cohort, root / "report", result, calls


def test_a_valid_cohort_passes_with_the_same_bytes_in_every_run(valid, tmp_path):
    cohort, report, first, _ = valid
    second = validate(cohort, SMALL, tmp_path / "two")
    assert first.passed
    assert first == second
    for name in ("report.html", "results.json", "profile.json"):
        assert (report / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_failing_cohort_is_refused_after_its_report_is_written(tmp_path):
    frames = cases.sources(patients=60)
    frames["clinical"].loc[7, "age"] = 430.0
    frames["clinical"].loc[9, "age"] = -2.0
    cohort = cases.write_cohort(frames, tmp_path / "cohort")
    with pytest.raises(DataError) as caught:
        validate(cohort, SMALL, tmp_path / "report")
    line = str(caught.value)
    assert caught.value.exit_code == 3
    assert "age_plausible" in line
    assert "P-0007 (430)" in line
    assert "report.html" in line
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    (outcome,) = [x for x in results["expectations"] if x["id"] == "age_plausible"]
    assert results["passed"] is False
    assert (outcome["failing"], outcome["rows"]) == (2, 60)
    assert [row["key"] for row in outcome["first"]] == ["P-0007", "P-0009"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Stopped." in page
    assert "P-0007 (430)" in page


def test_only_a_cohort_that_meets_the_contract_has_a_profile(valid, tmp_path):
    """A profile is the reference for later versions, and DVC runs the next stages where it exists."""
    cohort, report, *_ = valid
    shutil.copytree(report, tmp_path / "report")
    assert (tmp_path / "report" / "profile.json").exists()
    with pytest.raises(DataError, match="events_enough"):
        validate(cohort, ValidateParams(min_events=59), tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "results.json"}


def test_progress_is_reported_block_by_block_to_the_end(valid, tmp_path):
    cohort, _, _, calls = valid
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[0][:2] == (1, 5)  # five passes over the one block of 60 patients, at most
    assert calls[-1] == (5, 5, "blocks of expression")
    calls = []
    split(cohort, None, SplitParams(), tmp_path / "folds.csv", progress=lambda *arguments: calls.append(arguments))
    assert calls[-1] == (3, 3, "blocks of expression")


def test_the_flow_counts_patients_and_lists_samples_separately(tmp_path):
    """Three of 63 patients were excluded; a second sample of an included patient is no patient."""
    cohort = cases.write_cohort(cases.sources(patients=60), tmp_path / "cohort")
    info = tables.read_info(cohort).model_dump(mode="json")
    reasons = {"A": "no follow-up", "B": "no genes", "C": "no slides", "P-0001-02": "duplicate sample"}
    info["attrition"] = [{"patient_id": name, "reason": reason} for name, reason in reasons.items()]
    (cohort / "cohort.json").write_text(json.dumps(info))
    validate(cohort, SMALL, tmp_path / "report")
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["clinical_patients"] == 63
    assert results["attrition"] == {"no follow-up": ["A"], "no genes": ["B"], "no slides": ["C"]}
    assert results["excluded_rows"] == {"duplicate sample": ["P-0001-02"]}


@pytest.mark.slow
@pytest.mark.stack
def test_the_result_is_logged_to_mlflow_with_the_md5_of_the_data(cohort, tmp_path, servers_of):
    """A real server: numbers, report and data set of a run that ends FINISHED, or FAILED where the contract fails."""
    import mlflow

    params = SMALL.model_copy(update={"experiment": "validations"})
    kept = validate(cohort, params, tmp_path / "kept")
    with pytest.raises(DataError, match="events_enough"):
        validate(cohort, params.model_copy(update={"min_events": 59}), tmp_path / "broken")
    with tracking.service() as client:
        experiment = client.get_experiment_by_name("validations").experiment_id
        broken, first = client.search_runs([experiment])  # the last one first
        names = {item.path for item in client.list_artifacts(first.info.run_id, "validation")}
    assert kept.run_id == first.info.run_id
    assert (first.info.status, broken.info.status) == ("FINISHED", "FAILED")
    assert (first.data.tags["mcti.contract"], broken.data.tags["mcti.contract"]) == ("passed", "failed")
    assert "events_enough" in broken.data.tags["mcti.failed"]
    assert first.data.tags["mcti.data.cohort"] == kept.md5 == storage.tree_md5(cohort)
    (entry,) = mlflow.get_run(first.info.run_id).inputs.dataset_inputs
    assert (entry.dataset.digest, entry.dataset.name) == (kept.md5, "made")
    assert first.data.metrics["validation.patients"] == 60
    assert first.data.metrics["validation.failed_critical"] == 0
    assert names == {"validation/report.html", "validation/results.json", "validation/profile.json"}


def test_a_tracking_server_that_does_not_answer_gives_a_warning_and_the_report(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = validate(cohort, SMALL, tmp_path / "report")
    assert result.passed
    assert result.run_id is None
    assert "not logged to MLflow: MLflow does not answer" in result.warnings[0]
    assert (tmp_path / "report" / "report.html").exists()
    unlogged = validate(cohort, SMALL.model_copy(update={"experiment": None}), tmp_path / "report")
    assert unlogged.warnings == ()


def test_markup_in_the_data_is_escaped_in_the_report(tmp_path):
    frames = cases.sources(patients=60)
    markup = "<script>alert(1)</script>"
    frames["clinical"]["site"] = [f"{markup}{i % 4}" for i in range(60)]
    frames["clinical"][f"{markup}&quot;"] = 1.0
    frames["clinical"].loc[3, "age"] = 500
    cohort = cases.write_cohort(frames, tmp_path / "cohort")
    info = tables.read_info(cohort).model_dump(mode="json") | {"notice": f"painted {markup}", "warnings": [markup]}
    (cohort / "cohort.json").write_text(json.dumps(info))
    with pytest.raises(DataError):
        validate(cohort, SMALL, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<script" not in page
    assert page.count("painted &lt;script&gt;alert(1)&lt;/script&gt;") == 1  # the notice is shown


def test_the_report_needs_no_network(valid):
    page = (valid[1] / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert " src=" not in page


def test_drift_is_measured_from_the_reference_version(valid, tmp_path):
    cohort, reference, *_ = valid
    frames = cases.sources(patients=60)
    frames["clinical"]["age"] += 25
    frames["expression"]["G3"] += 5
    other = cases.write_cohort(frames, tmp_path / "other")
    params = SMALL.model_copy(update={"reference_profile": str(reference / "profile.json")})
    validate(other, params, tmp_path / "report")
    rows = json.loads((tmp_path / "report" / "results.json").read_text())["drift"]["rows"]
    by_name = {row["name"]: row for row in rows}
    assert by_name["age"]["psi"] > 0.25
    assert by_name["subtype"]["psi"] == 0
    assert by_name["genes whose mean moved by more than 0.5 sd"]["current"] == "1: G3"
    validate(cohort, params, tmp_path / "same")
    same = json.loads((tmp_path / "same" / "results.json").read_text())["drift"]["rows"]
    assert all(row["psi"] in (0, None) for row in same)


def test_an_invalid_reference_profile_is_refused(cohort, tmp_path):
    params = SMALL.model_copy(update={"reference_profile": str(cohort / "cohort.json")})
    with pytest.raises(DataError, match="not a profile of a data version"):
        validate(cohort, params, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_demo_cohort_passes_and_shows_its_notice(tmp_path):
    raw = dict(zip(("clinical", "expression", "slides"), public_cohort.demo_tables(), strict=True))
    paths = cases.write_sources(raw, tmp_path / "raw")
    params = IngestParams(name="gse7390-painted", notice="painted slides: not a clinical result")
    ingested = ingest(paths["clinical"], paths["expression"], paths["slides"], params, tmp_path / "cohort")
    assert (ingested.patients, ingested.events, ingested.genes, ingested.slides) == (198, 51, 76, 198)
    result = validate(tmp_path / "cohort", ValidateParams(), tmp_path / "report")
    assert result.failed == ()
    assert "painted slides: not a clinical result" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not TCGA.exists(), reason="the public TCGA tables are not on this machine")
@pytest.mark.parametrize(
    ("name", "patients", "events", "genes", "missing_ages", "subtypes"),
    [
        ("brca", 859, 112, 1558, 0, [708, 151]),
        ("nsclc", 903, 350, 1554, 15, [453, 450]),
    ],
)
def test_public_cohorts_pass_unchanged(tmp_path, name, patients, events, genes, missing_ages, subtypes):
    """The expected numbers are those of the README of the data."""
    params = IngestParams(name=name, expression_scale="z-score")
    paths = [str(TCGA / f"{name}_{table}") for table in ("clinical.csv", "expression.parquet", "slides.csv")]
    ingest(*paths, params, tmp_path / "cohort")
    result = validate(tmp_path / "cohort", ValidateParams(), tmp_path / "report")
    numbers = json.loads((tmp_path / "report" / "results.json").read_text())["numbers"]
    assert (result.patients, result.events, numbers["genes"]) == (patients, events, genes)
    table = tables.read_patients(tmp_path / "cohort")
    assert int(table["age"].isna().sum()) == missing_ages
    assert table["subtype"].value_counts().tolist() == subtypes
    for scheme in ("stratified", "site"):
        assigned = split(tmp_path / "cohort", None, SplitParams(scheme=scheme), tmp_path / f"{scheme}.csv")
        assert (sum(assigned.test_patients), sum(assigned.test_events)) == (patients, events)
    assert max(assigned.test_events) <= 0.4 * events  # one BRCA site alone has 39 of the 112 events
