"""A cohort with exclusions at every step: each count of the report, recomputed from the CSV files alone."""

import json
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from sksurv.metrics import concordance_index_censored

from mcti.params import EvaluateParams, IngestParams, SplitParams
from mcti.steps.evaluate.step import evaluate
from mcti.steps.ingest import ingest
from mcti.steps.split import split

PATIENTS = 150
GONE = {
    ("ingest", "no follow-up"): range(4),
    ("ingest", "no subtype"): range(4, 6),
    ("ingest", "no genes"): range(6, 9),
    ("ingest", "no slides"): range(9, 14),
    ("split", "no features of a slide"): range(14, 25),
}


def write_sources(root) -> pd.DataFrame:
    """clinical.csv, expression.csv, slides.csv and features/slides.csv, in which the patients of GONE lack something.

    Two more profiles and a slide belong to no patient of the cohort and must not be counted.
    """
    random = np.random.default_rng(3)
    ids = [f"P{i:03}" for i in range(PATIENTS)]
    death, censored = random.exponential(40, PATIENTS), random.uniform(5, 90, PATIENTS)
    clinical = pd.DataFrame(
        {
            "patient_id": ids,
            "site": [f"S{i % 4}" for i in range(PATIENTS)],
            "age": random.integers(40, 80, PATIENTS),
            "is_female": random.integers(0, 2, PATIENTS),
            "subtype": random.choice(["A", "B"], PATIENTS),
            "time_months": np.ceil(np.minimum(death, censored)),
            "event": (death <= censored).astype(int),
            "year": np.arange(PATIENTS),
            "grade": random.choice(["G1", "G2"], PATIENTS),
        }
    ).astype({"time_months": object, "subtype": object, "age": object, "grade": object})
    clinical.loc[range(30, 150, 11), ["age", "grade"]] = ""
    clinical.loc[list(GONE["ingest", "no follow-up"]), "time_months"] = ""
    clinical.loc[list(GONE["ingest", "no subtype"]), "subtype"] = ""
    clinical.to_csv(root / "clinical.csv", index=False)
    genes = pd.DataFrame(random.normal(size=(PATIENTS, 4)), index=ids, columns=list("WXYZ"))
    genes = genes.drop([ids[i] for i in GONE["ingest", "no genes"]])
    genes.loc["X1"], genes.loc["X2"] = 0.5, 0.6
    genes.rename_axis("patient_id").to_csv(root / "expression.csv")
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-S" for name in ids]})
    slides = slides.drop(list(GONE["ingest", "no slides"]))
    pd.concat([slides, pd.DataFrame({"patient_id": ["X3"], "slide_id": ["X3-S"]})]).to_csv(
        root / "slides.csv", index=False
    )
    failed = {ids[i] for i in GONE["split", "no features of a slide"]}
    (root / "features").mkdir()
    slides.assign(status=["NO_TISSUE" if p in failed else "OK" for p in slides["patient_id"]]).to_csv(
        root / "features" / "slides.csv", index=False
    )
    return clinical


def run(root, scheme: str, horizons: tuple[float, ...] = (12.0,), baselines=("cox_clinical",)) -> None:
    """ingest, split, random predictions with S at `horizons` in months, evaluate."""
    write_sources(root)
    ingest(root / "clinical.csv", root / "expression.csv", root / "slides.csv", IngestParams(), root / "cohort")
    params = SplitParams(scheme=scheme, folds=3, time_column="year")
    split(root / "cohort", root / "features", params, root / "folds.csv")
    folds, random = pd.read_csv(root / "folds.csv"), np.random.default_rng(5)
    for number, rows in folds[folds["role"] == "test"].groupby("fold"):
        table = rows[["patient_id", "fold"]].assign(risk=random.normal(size=len(rows)))
        for months in horizons:
            table[f"S_{months:g}"] = np.exp(-0.025 * months * np.exp(table["risk"]))
        (root / "models" / f"fold_{number}").mkdir(parents=True)
        table.to_csv(root / "models" / f"fold_{number}" / "predictions.csv", index=False)
    params = EvaluateParams(
        bootstrap=100, horizons_months=horizons, baselines=baselines, primary_baseline="cox_clinical"
    )
    evaluate(root / "cohort", None, root / "folds.csv", root / "models", params, root / "out")


@pytest.fixture(scope="module", params=["stratified", "time"])
def project(request, tmp_path_factory):
    """The scheme `time` trains on the first quarter of the patients and tests none of them."""
    root = tmp_path_factory.mktemp(request.param)
    run(root, request.param)
    return root, request.param


@pytest.fixture(scope="module")
def tables(project):
    """predictions.csv joined with the clinical table, and excluded.csv."""
    root, _ = project
    rows = pd.read_csv(root / "out" / "predictions.csv")
    clinical = pd.read_csv(root / "clinical.csv").drop(columns=["time_months", "event"])
    page = (root / "out" / "report.html").read_text(encoding="utf-8")
    gone = pd.read_csv(root / "out" / "excluded.csv")
    return rows.merge(clinical, on="patient_id"), gone, page


def cells(page: str, section: str) -> list[list[str]]:
    """The rows of the first table of a section."""
    body = page[page.index(f'id="{section}"') :].split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    plain = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body)]
    return [[re.sub(r"<[^>]+>", "", cell) for cell in row] for row in plain]


def test_excluded_patients_are_those_with_missing_source_data(project, tables):
    _, scheme = project
    gone = tables[1]
    counts = Counter(zip(gone["step"], gone["reason"], strict=True))
    expected = {key: len(patients) for key, patients in GONE.items()}
    untested = PATIENTS - sum(expected.values()) - len(tables[0])
    assert (untested > 0) is (scheme == "time")
    if untested:
        expected["evaluate", "in training parts only, tested in no fold"] = untested
    assert counts == expected
    for key, patients in GONE.items():
        named = gone.loc[(gone["step"] == key[0]) & (gone["reason"] == key[1]), "patient_id"]
        assert sorted(named) == [f"P{i:03}" for i in patients]
    assert len(gone) + len(tables[0]) == PATIENTS
    assert not set(gone["patient_id"]) & set(tables[0]["patient_id"])


def test_header_flow_and_checklist_count_the_evaluated_rows(tables):
    rows, gone, page = tables
    patients, events = len(rows), int(rows["event"].sum())
    fitted = KaplanMeierFitter().fit(rows["time_months"], rows["event"] == 0)
    assert f"{patients} patients evaluated, {events} events (OS)" in page
    assert f"median follow-up {fitted.median_survival_time_:.1f} months" in page
    assert f"{PATIENTS} patients in the clinical table." in page  # the flow, as text for those who cannot see it
    assert f"{patients} patients evaluated, {events} with the event, {patients - events} without." in page
    items = {row[0]: row[2] for row in cells(page, "tripod")}
    assert items["10"].startswith(f"{patients} patients, {events} events, at least")
    assert f"at least {rows.groupby('fold')['event'].sum().min()} events in a test fold" in items["10"]
    assert items["20a"].startswith(f"{PATIENTS} patients in the clinical table; excluded: ")
    assert items["20a"].endswith(f"{patients} evaluated, {events} with the event")
    assert items["21"].startswith(f"test: {patients} patients, {events} events")
    reported = {(row[0], row[1]): int(row[2]) for row in cells(page, "excluded")}
    assert reported == Counter(zip(gone["step"], gone["reason"], strict=True))
    for (step, reason), count in reported.items():
        assert f"{count} at {step} ({reason})" in items["20a"]


def test_the_training_parts_of_tripod_21_are_those_of_the_folds(project, tables):
    root, _ = project
    trained = pd.read_csv(root / "folds.csv").query("role == 'train'").groupby("fold")["patient_id"]
    event = pd.read_csv(root / "clinical.csv").set_index("patient_id")["event"]
    counts, events = trained.size(), trained.apply(lambda ids: event.loc[ids].sum())
    item = next(row[2] for row in cells(tables[2], "tripod") if row[0] == "21")
    for values, word in ((counts, "patients"), (events, "events")):
        low, high = values.min(), values.max()
        assert f"{low} {word}" in item if low == high else f"{low} to {high} {word}" in item


def test_subgroups_and_folds_count_the_evaluated_rows(tables):
    rows, _, page = tables
    middle = rows["age"].median()
    chosen = {
        "women": rows["is_female"] == 1,
        "men": rows["is_female"] == 0,
        f"age up to {middle:g}": rows["age"] <= middle,
        f"age over {middle:g}": rows["age"] > middle,
        "subtype A": rows["subtype"] == "A",
        "subtype B": rows["subtype"] == "B",
    }
    subgroups = {row[0]: row for row in cells(page, "subgroups")}
    for name, member in chosen.items():
        assert subgroups[name][1:3] == [str(member.sum()), str(rows.loc[member, "event"].sum())]
        assert subgroups[name][3].startswith(f"{c_within_folds(rows[member]):.3f}")
    for number, part in rows.groupby("fold"):
        row = next(row for row in cells(page, "folds") if row[0] == f"fold {number}")
        assert row[1:3] == [str(len(part)), str(part["event"].sum())]
        assert row[3] == f"{c_within_folds(part):.3f}"


def c_within_folds(rows: pd.DataFrame) -> float:
    """Pairs inside the folds, by scikit-survival 0.28."""
    right = pairs = 0.0
    for _, part in rows.groupby("fold"):
        if not part["event"].any():
            continue
        _, concordant, discordant, tied, _ = concordance_index_censored(
            part["event"] == 1, part["time_months"], part["risk"]
        )
        right, pairs = right + concordant + tied / 2, pairs + concordant + discordant + tied
    return right / pairs


def test_the_headline_c_and_table_1_are_those_of_the_evaluated_rows(project, tables):
    rows, _, page = tables
    assert f"C-index of MCTI: {c_within_folds(rows):.3f} [" in page
    table = pd.read_csv(project[0] / "out" / "plots" / "table_1.csv", dtype=str).set_index("characteristic")
    shown = {row[0]: row[1:] for row in cells(page, "patients")}
    for name, values in table.iterrows():
        assert shown[name] == list(values)[: len(shown[name])]
    columns = {"all": rows} | {f"fold {k}": part for k, part in rows.groupby("fold")}
    for name, part in columns.items():
        assert table.loc["patients", name] == str(len(part))
        assert table.loc["events, n (%)", name] == f"{part['event'].sum()} ({100 * part['event'].mean():.1f})"
        women = int(part["is_female"].sum())
        assert table.loc["female, n (%)", name] == f"{women} ({100 * women / len(part):.1f})"
        low, middle, high = part["age"].quantile([0.25, 0.5, 0.75])
        missing = part["age"].isna().sum()
        ages = f"{middle:.4g} [{low:.4g}, {high:.4g}]" + (f", {missing} missing" if missing else "")
        assert table.loc["age, median [quartiles]", name] == ages
        of_a = int((part["subtype"] == "A").sum())
        assert table.loc["subtype A, n (%)", name] == f"{of_a} ({100 * of_a / len(part):.1f})"
        assert table.loc["sites", name] == str(part["site"].nunique())
    groups = [int(table.loc["patients", f"{group} risk"]) for group in ("low", "high")]
    assert sum(groups) == len(rows)


def test_result_and_groups_hold_the_same_counts(project, tables):
    root, _ = project
    rows, gone, _ = tables
    result = json.loads((root / "out" / "result.json").read_text())
    assert (result["patients"], result["events"]) == (len(rows), rows["event"].sum())
    counted = {(step, reason): n for step, reasons in result["excluded"].items() for reason, n in reasons.items()}
    assert counted == Counter(zip(gone["step"], gone["reason"], strict=True))
    assert sorted(pd.read_csv(root / "out" / "groups.csv")["patient_id"]) == sorted(rows["patient_id"])
