"""explain: agreement of its files with predict and with each other, bad input."""

import re
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from mcti import storage
from mcti.cohort import tables
from mcti.errors import DataError, UsageError
from mcti.params import ExplainParams, PredictParams
from mcti.steps.explain.step import explain
from mcti.steps.predict.step import PatientPages, predict
from mcti.steps.train import train
from tests.training.factories import folders, settings

PARAMS = ExplainParams(steps=32, clusters=3, group_genes=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("a world")
    cohort, features, folds = folders(root)
    for number, path in enumerate(sorted(features.glob("*.h5"))):
        with h5py.File(path, "r+") as file:
            tiles = len(file["features"])
            file["coords"][:] = np.stack([np.arange(tiles) % 4, np.arange(tiles) // 4], 1) * 256
            if number == 1:
                del file["coords"]
    train(cohort, features, folds, settings(epochs=3, workers=1), root / "models")
    (root / "sets.gmt").write_text("FIRST\t<b>\tg0\tg1\tg2\nREST\t\tg2\tg3\tg4\n")
    return root, cohort, features


@pytest.fixture(scope="module")
def explained(world, tmp_path_factory):
    root, cohort, features = world
    out = tmp_path_factory.mktemp("out") / "explanations"
    return explain(str(root / "models"), cohort, features, PARAMS, out, gene_sets=root / "sets.gmt"), out


def test_the_risk_equals_that_of_predict_and_the_contributions_add_up_to_it(world, explained, tmp_path):
    root, cohort, features = world
    predict(str(root / "models"), cohort, features, PredictParams(), tmp_path / "p.csv")
    risks = pd.read_csv(tmp_path / "p.csv").set_index("patient_id")["risk"]
    table = pd.read_csv(explained[1] / "contributions.csv").set_index("patient_id")
    assert explained[0].patients == len(risks) == len(table)
    pd.testing.assert_series_equal(table["risk"], risks, atol=2e-5, rtol=0)
    whole = table["baseline"] + table["slides"] + table["genes"] + table["clinical"] + table["gap"]
    pd.testing.assert_series_equal(whole, table["risk"], check_names=False, rtol=1e-9)
    assert explained[0].largest_gap == pytest.approx(table["gap"].abs().max())


def write_new_patients(world, folder):
    """Two patients of the cohort as new patients without an outcome, under other ids."""
    _, cohort, features = world
    folder.mkdir()
    genes = tables.read_expression(cohort).iloc[2:4]
    genes.rename(index=lambda name: f"N-{name}").to_csv(folder / "expression.csv", index_label="patient_id")
    slides = tables.read_slides(cohort)[["patient_id", "slide_id"]].iloc[2:4]
    slides.assign(patient_id="N-" + slides["patient_id"]).to_csv(folder / "slides.csv", index=False)
    shutil.copytree(features, folder / "features")
    return folder


def test_new_patients_are_explained_with_the_risks_of_predict_and_their_page_shows_it(world, tmp_path):
    models, new = str(world[0] / "models"), write_new_patients(world, tmp_path / "new")
    result = explain(models, None, None, PARAMS, tmp_path / "explanations", new_patients=new)
    assert result.patients == 2
    pages = PatientPages(tmp_path / "pages", tmp_path / "explanations", pdf=True)
    where = {"new_patients": new, "pages": pages}
    predict(models, None, None, PredictParams(), tmp_path / "p.csv", **where)
    risks = pd.read_csv(tmp_path / "p.csv").set_index("patient_id")["risk"]
    table = pd.read_csv(tmp_path / "explanations" / "contributions.csv").set_index("patient_id")
    pd.testing.assert_series_equal(table["risk"], risks, atol=2e-5, rtol=0)
    html = (tmp_path / "pages" / "N-P-002.html").read_text(encoding="utf-8")
    for words in ("<svg", "Contributions to the risk", "genes with the largest weights", "data:image/png"):
        assert words in html
    pdf = (tmp_path / "pages" / "N-P-002.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") == 1
    predict(models, None, None, PredictParams(), tmp_path / "again.csv", **where)
    assert (tmp_path / "pages" / "N-P-002.pdf").read_bytes() == pdf, "the PDF has no date and no version"
    with pytest.raises(DataError, match=r"patient 'N-P-02'.*N-P-002"):
        explain(models, None, None, PARAMS, tmp_path / "w", new_patients=new, patient_ids=["N-P-02"])
    with pytest.raises(UsageError, match="one source of patients"):
        explain(models, world[1], None, PARAMS, tmp_path / "w", new_patients=new)


def test_tiles_genes_and_tokens_add_up_to_their_modality(explained):
    table = pd.read_csv(explained[1] / "contributions.csv").set_index("patient_id")
    genes = pd.read_parquet(explained[1] / "genes.parquet")
    np.testing.assert_allclose(genes.sum(axis=1), table["genes"], rtol=0, atol=1e-6)  # stored in float32
    tokens = pd.read_csv(explained[1] / "tokens.csv").groupby("patient_id")["contribution"].sum()
    np.testing.assert_allclose(tokens, table["risk"] - table["baseline"], rtol=0, atol=5e-3)
    for patient in ("P-000", "P-005"):
        tiles = pd.read_csv(explained[1] / "tiles" / f"{patient}-S.csv")
        assert tiles["score"].sum() == pytest.approx(table.loc[patient, "slides"], rel=1e-9)


def test_each_slide_has_the_tiles_and_coordinates_of_its_feature_file(world, explained):
    _, _, features = world
    assert explained[0].slides_without_coordinates == 1
    with h5py.File(features / "P-004-S.h5") as file:
        tiles = pd.read_csv(explained[1] / "tiles" / "P-004-S.csv")
        np.testing.assert_array_equal(tiles[["x", "y"]], file["coords"][:])
    assert not (explained[1] / "tiles" / "P-001-S.csv").exists()
    tokens = pd.read_csv(explained[1] / "tokens.csv")
    patch = tokens[(tokens["patient_id"] == "P-004") & (tokens["token"] == "patch_0")].iloc[0]
    assert patch["slide_id"] == "P-004-S"
    assert (patch["x"], patch["y"]) in set(map(tuple, tiles[["x", "y"]].to_numpy().tolist()))


def test_a_page_shows_the_plan_from_one_percent_of_the_attribution_on(explained):
    """From tokens.csv: the carried tokens' share of the sum of absolute parts, for each patient and model."""
    tokens = pd.read_csv(explained[1] / "tokens.csv")
    tokens["part"] = tokens["contribution"].abs()
    is_shown = set()
    for (patient, _), rows in tokens.groupby(["patient_id", "model"]):
        share = rows.loc[rows["token"].str.startswith("carried"), "part"].sum() / rows["part"].sum()
        page = (explained[1] / "patients" / f"{patient}.html").read_text(encoding="utf-8")
        assert f"Share of the transport plan in the attribution of this patient: {100 * share:.2g} %" in page
        assert ("From patches to gene groups" in page) is bool(share >= 0.01)
        is_shown.add(share >= 0.01)
    assert is_shown, "at least one patient is explained"


def test_groups_sets_and_plans_have_their_rows(explained):
    groups = pd.read_csv(explained[1] / "gene_groups.csv")
    one = groups[groups["patient_id"] == "P-000"]
    assert one.groupby(["model", "group"]).size().tolist() == [3, 3]
    assert (one.sort_values(["group", "rank"]).groupby("group")["weight"].diff().dropna() <= 0).all()
    sets = pd.read_csv(explained[1] / "gene_sets.csv")
    assert set(sets["gene_set"]) == {"FIRST", "REST"}
    plans = pd.read_csv(explained[1] / "plans.csv")
    assert (plans["mass"] >= 0).all()
    assert plans[plans["patient_id"] == "P-000"].groupby("cluster")["patches"].first().is_monotonic_decreasing


def test_the_page_is_self_contained_and_escapes_user_text(explained):
    text = (explained[1] / "patients" / "P-000.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "<script" not in text
    assert "completeness gap" in text
    assert "P-000-S" in text


def test_a_patient_has_the_same_explanation_alone_and_with_others(world, explained, tmp_path):
    root, cohort, features = world
    out = tmp_path / "alone"
    explain(str(root / "models"), cohort, features, PARAMS, out, patient_ids=["P-005"], gene_sets=root / "sets.gmt")
    assert sorted(path.name for path in (out / "patients").iterdir()) == ["P-005.html"]
    for name in ("patients/P-005.html", "tiles/P-005-S.csv"):
        assert (out / name).read_bytes() == (explained[1] / name).read_bytes()


def test_two_runs_write_the_same_bytes(world, explained, tmp_path):
    root, cohort, features = world
    explain(str(root / "models"), cohort, features, PARAMS, tmp_path / "explanations", gene_sets=root / "sets.gmt")
    assert storage.tree_md5(tmp_path / "explanations") == storage.tree_md5(explained[1])


def test_an_unknown_patient_is_an_error_with_a_suggestion_and_nothing_is_written(world, tmp_path):
    root, cohort, features = world
    with pytest.raises(DataError, match=r"patient 'p-007' in .*did you mean P-007"):
        explain(str(root / "models"), cohort, features, PARAMS, tmp_path / "explanations", patient_ids=["p-007"])
    assert not list(tmp_path.iterdir())


def test_a_patient_without_slides_is_an_error_where_the_model_needs_slides(world, tmp_path):
    root, cohort, _ = world
    with pytest.raises(DataError, match=r"no slides.*patient P-000"):
        explain(str(root / "models"), cohort, None, PARAMS, tmp_path / "explanations")
    assert not (tmp_path / "explanations").exists()
    assert tables.read_patients(cohort).shape[0] == 24
