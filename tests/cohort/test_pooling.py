import numpy as np
import pandas as pd
import pytest

from mcti.cohort import tables
from mcti.cohort.pooling import NamedCohort, align, pool
from mcti.errors import DataError
from tests.training import factories


def named(root, name, prefix, seed=0, **changes):
    cohort, _, _ = factories.folders(root / name, patients=12, seed=seed, prefix=prefix)
    info = tables.read_info(cohort).model_copy(update={"name": name})
    patients, slides, genes = tables.read_patients(cohort), tables.read_slides(cohort), tables.read_expression(cohort)
    parts = {"patients": patients, "expression": genes, "slides": slides, "info": info} | changes
    return NamedCohort(name, str(cohort), "0" * 32, tables.Cohort(**parts))


def test_the_pool_has_all_patients_with_their_cohort_and_the_union_of_genes(tmp_path):
    one, other = named(tmp_path, "one", "A"), named(tmp_path, "other", "B", seed=1)
    genes = other.tables.expression.rename(columns={"g4": "h4"})
    other = named(tmp_path / "again", "other", "B", seed=1, expression=genes)
    pooled = pool([one, other])
    assert list(pooled.patients["patient_id"]) == sorted([*one.tables.patients["patient_id"], *genes.index])
    assert pooled.patients.groupby("cohort").size().to_dict() == {"one": 12, "other": 12}
    assert set(pooled.patients["subtype"]) == {"one IDC", "one ILC", "other IDC", "other ILC"}
    assert list(pooled.expression.columns) == ["g0", "g1", "g2", "g3", "g4", "h4"]
    assert pooled.expression.loc[genes.index, "g4"].isna().all()
    assert pooled.expression.loc[genes.index, "h4"].notna().all()
    assert pooled.info.counts == {
        "patients": 24,
        "events": int(pooled.patients["event"].sum()),
        "genes": 6,
        "slides": 24,
    }
    assert pooled.info.sources == {"one": "0" * 32, "other": "0" * 32}
    folder = tmp_path / "written"
    folder.mkdir()
    tables.write(pooled, folder)
    pd.testing.assert_frame_equal(tables.read_expression(folder), pooled.expression)


def test_a_covariate_is_kept_where_it_is_numeric_in_every_cohort_that_has_it(tmp_path):
    one, other = named(tmp_path, "one", "A"), named(tmp_path, "other", "B")
    first = one.tables.patients.assign(grade=2, stage="II")
    second = other.tables.patients.assign(stage=3.0)
    pooled = pool(
        [named(tmp_path / "1", "one", "A", patients=first), named(tmp_path / "2", "other", "B", patients=second)]
    )
    assert tables.covariates(pooled.patients) == ["grade"]
    by_cohort = pooled.patients.groupby("cohort")["grade"]
    assert by_cohort.apply(lambda values: values.isna().all()).to_dict() == {"one": False, "other": True}


def test_a_cohort_without_competing_events_has_none_in_the_pool(tmp_path):
    one = named(tmp_path, "one", "A")
    table = named(tmp_path, "other", "B").tables.patients
    other = named(tmp_path / "2", "other", "B", patients=table.assign(competing=(1 - table["event"]).astype("int8")))
    assert "competing" not in pool([one]).patients
    pooled = pool([one, other])
    by_cohort = pooled.patients.groupby("cohort")["competing"].sum()
    assert by_cohort.to_dict() == {"one": 0, "other": int((table["event"] == 0).sum())}
    assert pooled.info.counts["competing_events"] == int((table["event"] == 0).sum())
    assert pooled.patients["competing"].dtype == "int8"


@pytest.mark.parametrize(
    ("name", "prefix", "message"),
    [("one", "B", "the cohort name 'one' is also in"), ("other", "A", "patient 'A-000' is also in")],
)
def test_a_name_or_a_patient_in_two_cohorts_is_refused(tmp_path, name, prefix, message):
    with pytest.raises(DataError, match=message):
        pool([named(tmp_path / "1", "one", "A"), named(tmp_path / "2", name, prefix)])


def test_aligned_genes_have_one_mean_and_one_spread_in_every_cohort():
    random = np.random.default_rng(0)
    one = pd.DataFrame({"g": random.normal(5, 1, 50), "h": random.normal(0, 1, 50)}, [f"a{i:02}" for i in range(50)])
    other = pd.DataFrame({"g": random.normal(9, 3, 40), "k": 7.0}, [f"b{i:02}" for i in range(40)])
    aligned = align({"one": one, "other": other}, "log2")
    first, second = aligned.loc[one.index], aligned.loc[other.index]
    mean, sd = (one["g"].mean() + other["g"].mean()) / 2, ((one["g"].var(ddof=0) + other["g"].var(ddof=0)) / 2) ** 0.5
    for part in (first, second):
        assert part["g"].mean() == pytest.approx(mean, abs=1e-4)
        assert part["g"].std(ddof=0) == pytest.approx(sd, abs=1e-4)
    assert np.corrcoef(second["g"], other["g"])[0, 1] == pytest.approx(1)
    np.testing.assert_allclose(first["h"], one["h"], rtol=1e-5)  # of one cohort alone
    assert (second["k"] == 7).all(), "a constant gene keeps its value"
    assert second["h"].isna().all()


def test_aligned_counts_are_not_negative():
    random = np.random.default_rng(0)
    one, other = (pd.DataFrame({"g": random.poisson(mean, 30)}, [f"{mean}-{i}" for i in range(30)]) for mean in (1, 40))
    aligned = align({"one": one, "other": other}, "counts")
    assert (aligned["g"] >= 0).all()
    assert aligned.loc[one.index, "g"].median() > 2 * one["g"].median()


def test_a_pool_has_the_categories_that_the_training_reads_in_one_order(tmp_path):
    def staged(name, prefix, stage, order):
        one = named(tmp_path / name, name, prefix)
        patients = one.tables.patients.assign(stage=stage, grade="low")
        info = one.tables.info.model_copy(update={"ordered_levels": {"stage": order}})
        return named(tmp_path / f"{name} again", name, prefix, patients=patients, info=info)

    cohorts = [staged("one", "A", "I", ("I", "II")), named(tmp_path, "other", "B")]
    pooled = pool(cohorts, ("age", "stage"))
    assert pooled.patients.groupby("cohort")["stage"].agg(lambda column: column.notna().sum()).to_dict() == {
        "one": 12, "other": 0,
    }  # fmt: skip
    assert "grade" not in pooled.patients
    assert pooled.info.ordered_levels == {"stage": ("I", "II")}
    with pytest.raises(DataError, match="levels of stage are"):
        pool([cohorts[0], staged("third", "C", "II", ("II", "I"))], ("stage",))
