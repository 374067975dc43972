"""predict: a folder of folds on a cohort, in batch and alone."""

import dataclasses
import json
import re
import shutil
import weakref
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from mcti.cohort import tables
from mcti.dataset.loading import CohortTables, load_dataset
from mcti.errors import DataError, UsageError
from mcti.params import PredictParams
from mcti.registry import ensemble_files
from mcti.steps.predict.step import PatientPages, PredictResult, frame, predict
from mcti.steps.train import train
from tests.training.factories import GENES, WIDTH, folders, settings


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("a world")
    cohort, features, folds = folders(root)
    train(cohort, features, folds, settings(epochs=1, workers=1), root / "models")
    return root, cohort, features


DEFAULTS = PredictParams()


def out_of_fold(root):
    parts = [pd.read_csv(path, dtype=str) for path in sorted((root / "models").glob("fold_*/predictions.csv"))]
    return pd.concat(parts).set_index("patient_id")["risk"]


@dataclasses.dataclass
class Predicted:
    """The files of one prediction, its result and its reports of progress."""

    table: Path
    pages: Path
    result: PredictResult
    counts: list


@pytest.fixture(scope="module")
def of_development(world, tmp_path_factory):
    """The development cohort, with a page for each patient."""
    root, cohort, features = world
    folder, counts = tmp_path_factory.mktemp("development"), []
    table, pages = folder / "out.csv", folder / "pages"
    report = lambda *values: counts.append(values[:2])  # noqa: E731
    models = str(root / "models")
    result = predict(models, cohort, features, DEFAULTS, table, progress=report, pages=PatientPages(pages))
    return Predicted(table, pages, result, counts)


def test_the_development_cohort_gets_its_out_of_fold_risks_to_the_bit(world, of_development):
    root, result = world[0], of_development.result
    ours = pd.read_csv(of_development.table, dtype=str).set_index("patient_id")["risk"]
    assert ours.to_dict() == out_of_fold(root).to_dict()
    assert result.patients == result.known == len(ours)


def test_requested_patients_alone_are_predicted_with_the_same_bits(world, tmp_path):
    root, cohort, features = world
    predict(str(root / "models"), cohort, features, DEFAULTS, tmp_path / "o.csv", patient_ids=["P-005", "P-003"])
    risks = pd.read_csv(tmp_path / "o.csv", dtype=str).set_index("patient_id")["risk"]
    assert risks.to_dict() == {name: out_of_fold(root)[name] for name in ("P-003", "P-005")}


def test_an_unknown_requested_patient_is_an_error_with_a_suggestion(world, tmp_path):
    root, cohort, features = world
    with pytest.raises(DataError, match=r"patient 'p-005' does not exist in .*did you mean P-005"):
        predict(str(root / "models"), cohort, features, DEFAULTS, tmp_path / "o.csv", patient_ids=["p-005"])
    assert not list(tmp_path.iterdir())


def test_json_has_the_same_rows_as_csv(world, of_development, tmp_path):
    root, cohort, features = world
    predict(str(root / "models"), cohort, features, DEFAULTS, tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())
    types = {"missing": str, "digest": str}
    table = pd.read_csv(of_development.table, float_precision="round_trip", dtype=types)
    texts = {name: table[name].fillna("") for name in ("missing", "beyond_followup")}
    known = table.astype(object).where(table.notna(), None).assign(**texts)
    assert rows == known.to_dict("records")


def test_progress_counts_every_patient(of_development):
    assert of_development.counts == [(n, 24) for n in range(1, 25)]


def test_a_cohort_without_a_gene_of_the_model_is_refused_with_patient_and_gene(world, tmp_path):
    root, cohort, features = world
    other = tmp_path / "cohort"
    other.mkdir()
    expression = tables.read_expression(cohort)[list(GENES[1:])]
    whole = tables.Cohort(
        tables.read_patients(cohort), expression, tables.read_slides(cohort), tables.read_info(cohort)
    )
    tables.write(whole, other)
    with pytest.raises(DataError, match=r"gene 'g0' is missing.*P-000"):
        predict(str(root / "models"), other, features, DEFAULTS, tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()


def test_without_features_a_model_of_slides_is_an_error(world, tmp_path):
    root, cohort, _ = world
    with pytest.raises(DataError, match="no slides, and the model was trained on patients with both"):
        predict(str(root / "models"), cohort, None, DEFAULTS, tmp_path / "o.csv")


def test_a_folder_without_a_model_is_refused(world, tmp_path):
    _, cohort, features = world
    with pytest.raises(DataError, match="no such folder"):
        predict(str(tmp_path / "nowhere"), cohort, features, DEFAULTS, tmp_path / "o.csv")


def test_the_frame_for_the_served_model_contains_every_patient(world):
    _, cohort, features = world
    rows = frame(cohort, features)
    assert list(rows.columns) == ["patient_id", "genes", "features", "covariates"]
    assert rows["genes"].map(set).eq(set(GENES)).all()
    assert rows["features"].map(lambda bag: {len(patch) for patch in bag} == {WIDTH}).all()


def new_patient_folder(world, tmp_path, change=lambda expression: None):
    """The cohort's patients under new ids: a folder of tables, with features and without outcomes."""
    _, cohort, features = world
    folder = tmp_path / "new"
    folder.mkdir()
    expression = tables.read_expression(cohort)
    expression.index = [f"N-{name}" for name in expression.index]
    change(expression)
    expression.to_csv(folder / "expression.csv", index_label="patient_id")
    slides = tables.read_slides(cohort)[["patient_id", "slide_id"]]
    slides.assign(patient_id="N-" + slides["patient_id"]).to_csv(folder / "slides.csv", index=False)
    shutil.copytree(features, folder / "features")
    return folder


def predicted(path):
    return pd.read_csv(path, dtype={"patient_id": str}, float_precision="round_trip").set_index("patient_id")


@pytest.fixture(scope="module")
def of_new_patients(world, tmp_path_factory):
    """(result, table) of the same patients under new ids."""
    folder = tmp_path_factory.mktemp("new patients")
    new, models, out = new_patient_folder(world, folder), str(world[0] / "models"), folder / "o.csv"
    return predict(models, None, None, DEFAULTS, out, new_patients=new), predicted(out)


def test_a_folder_of_new_patients_needs_no_outcome_and_gets_group_span_and_flags(of_new_patients):
    result, table = of_new_patients
    assert (result.patients, result.known, result.incomplete) == (24, 0, 0)
    assert (table["model"] == "ensemble").all()
    assert set(table["risk_group"]) == {"low", "high"}
    assert (table["S_36_low"] < table["S_36"]).all()
    assert (table["S_36"] < table["S_36_high"]).all()
    assert table["digest"].eq(result.model_digest[:12]).all()


@pytest.fixture(scope="module")
def refitted(world, tmp_path_factory):
    """The ensemble of the folds with a refit on all patients."""
    root, cohort, features = world
    train(cohort, features, root / "folds.csv", settings(epochs=1, workers=1), root / "models", refit=True)
    folder = tmp_path_factory.mktemp("refitted") / "ensemble"
    ensemble_files.assemble(root / "models", folder, refit=True)
    return folder


@pytest.fixture(scope="module")
def of_refit(world, refitted, tmp_path_factory):
    """(result, table) of new patients by the refit."""
    folder = tmp_path_factory.mktemp("by the refit")
    new, out = new_patient_folder(world, folder), folder / "o.csv"
    return predict(str(refitted), None, None, DEFAULTS, out, new_patients=new), predicted(out)


def test_new_patients_of_a_refit_are_not_counted_as_known(of_refit):
    result, table = of_refit
    assert (result.patients, result.known) == (24, 0)
    assert (table["model"] == "refit").all()


def test_risk_groups_are_cut_at_quantiles_of_the_out_of_fold_risks(world, of_new_patients):
    """Oracle: the median of each fold's own predictions, averaged over both folds."""
    root, (_, table) = world[0], of_new_patients
    medians = [pd.read_csv(p)["risk"].median() for p in sorted((root / "models").glob("fold_*/predictions.csv"))]
    assert_cut(table, float(np.mean(medians)))


def test_risk_groups_of_a_refit_have_thresholds_on_the_scale_of_its_training_risks(world, refitted, of_refit):
    """Oracle: the share of a fold's training patients below its out-of-fold median, as a quantile of the refit's."""
    root, cohort, features = world
    data, loaded, shares = load_dataset(cohort, features), ensemble_files.load(refitted), []

    def training_risks(name):
        bags = [b for b in data.bags.values() if name == "refit" or name not in loaded.eligible_members(b.patient_id)]
        return np.array([loaded.members[name].predict(b.patches, b.genes, (36.0,))["risk"] for b in bags])

    for name in ("fold_0", "fold_1"):
        middle = pd.read_csv(root / "models" / name / "predictions.csv")["risk"].median()
        shares.append(float((training_risks(name) <= middle).mean()))
    assert_cut(of_refit[1], float(np.quantile(training_risks("refit"), np.mean(shares))), 0.15)


def assert_cut(table, limit, near=0.02):
    """Low below the limit and high above it; not near the limit, since the quantile grid is coarse."""
    clear = (table["risk"] - limit).abs() > near * table["risk"].std() + 1e-3
    assert clear.sum() > 12
    assert (table.loc[clear, "risk"] > limit).eq(table.loc[clear, "risk_group"] == "high").all()


@pytest.mark.slow
def test_one_process_or_several_one_patient_or_many_give_the_same_bits(world, tmp_path, monkeypatch):

    root, cohort, features = world
    monkeypatch.setattr("mcti.steps.predict.batch.PATIENTS_PER_JOB", 7)
    for workers in (1, 2):
        params = PredictParams(workers=workers)
        predict(str(root / "models"), cohort, features, params, tmp_path / f"{workers}.csv")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_the_features_of_one_patient_are_in_memory_at_a_time(world, tmp_path, monkeypatch):
    """Memory does not grow with the number of patients: the features of the patients before are freed."""
    root, cohort, features = world
    bags, most = [], []
    load = CohortTables.load

    def counted(tables_read, patients):
        data = load(tables_read, patients)
        bags.extend(weakref.ref(bag.patches) for bag in data.bags.values() if bag.patches is not None)
        most.append(sum(bag() is not None for bag in bags))
        return data

    monkeypatch.setattr(CohortTables, "load", counted)
    predict(str(root / "models"), cohort, features, PredictParams(workers=1), tmp_path / "o.csv")
    assert len(bags) > 15
    assert max(most) <= 2  # the one just read, and the one whose name the loop still holds


def test_the_tables_are_read_once_for_any_number_of_jobs(world, tmp_path, monkeypatch):
    from mcti.dataset import new_patients as steps

    read = []
    monkeypatch.setattr("mcti.steps.predict.batch.PATIENTS_PER_JOB", 4)
    monkeypatch.setattr(steps, "_expression", lambda folder, before=steps._expression: read.append(1) or before(folder))
    one = PredictParams(workers=1)
    predict(
        str(world[0] / "models"), None, None, one, tmp_path / "o.csv", new_patients=new_patient_folder(world, tmp_path)
    )
    assert len(read) == 2, "once for the ids and once for the genes, not once for each of the six jobs"


def test_patients_of_another_scale_are_flagged_and_ordinary_ones_are_not(world, tmp_path):
    def counts_in_place_of_logs(expression):
        expression.iloc[:6] = 2 ** (expression.iloc[:6] + 4)

    root, *_ = world
    folder = new_patient_folder(world, tmp_path, counts_in_place_of_logs)
    result = predict(str(root / "models"), None, None, DEFAULTS, tmp_path / "o.csv", new_patients=folder)
    table = predicted(tmp_path / "o.csv").sort_index()
    assert table["out_of_distribution"].iloc[:6].all()
    assert (table["ood_score"].iloc[:6] > 3).all()
    assert table["out_of_distribution"].iloc[6:].mean() <= 0.2
    assert result.out_of_distribution == int(table["out_of_distribution"].sum())


def test_a_page_a_patient_shows_curve_and_flags_and_escapes_names(world, tmp_path):
    def name(expression):
        expression.rename(index={"N-P-000": "N-P-000 <b>"}, inplace=True)

    root, *_ = world
    folder = new_patient_folder(world, tmp_path, name)
    with pytest.raises(
        DataError, match=r"2 of 25 patients.* no genes"
    ):  # the former patient of the slide, and the renamed patient
        predict(
            str(root / "models"),
            None,
            None,
            DEFAULTS,
            tmp_path / "o.csv",
            new_patients=folder,
            pages=PatientPages(tmp_path / "pages"),
        )
    assert len(list((tmp_path / "pages").iterdir())) == 23
    slides = pd.read_csv(folder / "slides.csv")
    slides.replace({"N-P-000": "N-P-000 <b>"}).to_csv(folder / "slides.csv", index=False)
    predict(
        str(root / "models"),
        None,
        None,
        DEFAULTS,
        tmp_path / "o.csv",
        new_patients=folder,
        pages=PatientPages(tmp_path / "pages"),
    )
    pages = sorted(path.name for path in (tmp_path / "pages").iterdir())
    assert len(pages) == 24, "and no PDF without the flag"
    html = (tmp_path / "pages" / "N-P-000 <b>.html").read_text(encoding="utf-8")
    assert "N-P-000 &lt;b&gt;" in html
    assert "<b>.html" not in html
    assert "<svg" in html
    assert "predicted by the mean of all fold models" in html
    assert re.search(r"Distance from the training patients: \d\.\d\d of the limit of 1", html)
    assert not re.search(r"(src|href)=[\"']?http", html)


def test_the_page_of_a_development_patient_states_the_fold(of_development):
    html = next(of_development.pages.glob("*.html")).read_text(encoding="utf-8")
    assert re.search(
        r"predicted by the model of fold \d, which was trained without this patient of the development cohort", html
    )


def test_the_page_places_the_risk_in_the_development_cohort(world, of_development):
    """Percentile: the share of the fold's test patients with a lower risk. The model stores a quantile grid
    with at least two patients per interval, no single risk: a fold of twelve gives it within two intervals."""
    root = world[0]
    rows = pd.read_csv(of_development.table).set_index("patient_id")
    for fold in (0, 1):
        table = pd.read_csv(root / "models" / f"fold_{fold}" / "predictions.csv").set_index("patient_id")
        for patient in table.index[:4]:
            page = (of_development.pages / f"{patient}.html").read_text(encoding="utf-8")
            percentile = float(re.search(r"higher than that of (\d+) % of the patients", page).group(1))
            assert percentile == pytest.approx(100 * (table["risk"] < rows.loc[patient, "risk"]).mean(), abs=34)
            assert "Developed on cohort made, endpoint OS; model models; predicted on 20" in page
            assert "Dashed: the development cohort (Kaplan-Meier)" in page


def test_both_or_no_source_of_patients_is_an_error(world, tmp_path):
    root, cohort, features = world
    for sources in ((None, None), (cohort, tmp_path)):
        with pytest.raises(UsageError, match="one source of patients"):
            predict(str(root / "models"), sources[0], features, DEFAULTS, tmp_path / "o.csv", new_patients=sources[1])


def test_a_folder_without_patients_and_a_patient_twice_are_refused(world, tmp_path):
    root, *_ = world
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no patient"):
        predict(str(root / "models"), None, None, DEFAULTS, tmp_path / "o.csv", new_patients=tmp_path / "empty")
    folder = new_patient_folder(world, tmp_path)
    lines = (folder / "expression.csv").read_text().splitlines()
    (folder / "expression.csv").write_text("\n".join(lines).replace("N-P-001,", "../N-P-001,") + "\n")
    with pytest.raises(DataError, match=r"'\.\./N-P-001' cannot name a patient"):
        predict(str(root / "models"), None, None, DEFAULTS, tmp_path / "o.csv", new_patients=folder)
    (folder / "expression.csv").write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(DataError, match=r"N-P-000.*two rows"):
        predict(str(root / "models"), None, None, DEFAULTS, tmp_path / "o.csv", new_patients=folder)


def with_features(folder, slide, change):
    """Alter the features file of a slide of these new patients."""
    with h5py.File(folder / "features" / f"{slide}.h5", "a") as file:
        change(file)


def emptied(file):
    """The slide without patches."""
    empty = file["features"][:0]
    del file["features"]
    file["features"] = empty


def test_a_refused_patient_is_listed_and_the_others_are_predicted(world, of_new_patients, tmp_path):
    root, *_ = world
    folder, out = new_patient_folder(world, tmp_path), tmp_path / "o.csv"
    whole, owner = of_new_patients[1], pd.read_csv(folder / "slides.csv", dtype=str).set_index("slide_id")["patient_id"]
    slide = owner.drop_duplicates(keep=False).index[0]
    with_features(folder, slide, emptied)
    with pytest.raises(DataError, match=r"1 of 24 patients.*bag without a patch.*o\.refused\.csv lists them"):
        predict(str(root / "models"), None, None, DEFAULTS, out, new_patients=folder)
    pd.testing.assert_frame_equal(predicted(out), whole.drop(owner[slide]))
    assert list(predicted(tmp_path / "o.refused.csv").index) == [owner[slide]]
    allowed = PredictParams(max_refused_share=0.05)
    assert predict(str(root / "models"), None, None, allowed, out, new_patients=folder).refused == 1
    shutil.rmtree(folder)
    predict(str(root / "models"), None, None, DEFAULTS, out, new_patients=new_patient_folder(world, tmp_path))
    assert not (tmp_path / "o.refused.csv").exists()


def test_features_of_another_encoder_of_the_same_width_are_refused(world, tmp_path):
    root, *_ = world
    models, folder = shutil.copytree(root / "models", tmp_path / "models"), new_patient_folder(world, tmp_path)
    for path in models.glob("fold_*/model.json"):
        spec = json.loads(path.read_text()) | {"features": {"encoder": "synthetic", "target_mpp": 0.5}}
        path.write_text(json.dumps(spec))
    for slide in pd.read_csv(folder / "slides.csv", dtype=str)["slide_id"]:
        with_features(folder, slide, lambda file: file.attrs.update(encoder="another"))
    with pytest.raises(DataError, match="the features have encoder another, those of the training had synthetic"):
        predict(str(models), None, None, DEFAULTS, tmp_path / "o.csv", new_patients=folder)
