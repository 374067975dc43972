import logging
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from mcti.cohort import tables
from mcti.cohort.folds import read_folds
from mcti.dataset.source_checks import CohortFacts, check_pool, check_prior, check_sources, grouped_by_site
from mcti.dataset.sources import SourceFiles
from mcti.errors import DataError
from mcti.model.network import MCTI
from mcti.model.presets import preset
from mcti.model.prior import Prior
from mcti.model.reference_profile import ColumnProfile, ReferenceProfile
from mcti.model.trained import Fitted, Scale, TrainedModel
from mcti.redaction import hashed
from tests.training import factories

NAMES = tuple(f"G{number}" for number in range(40))


def rename(folder, prefix, names=NAMES, seed=0, **info):
    """Other patient and slide ids, more genes, a name and other values of cohort.json."""
    cohort, features = folder / "cohort", folder / "features"
    patients, slides = tables.read_patients(cohort), tables.read_slides(cohort)
    patients["patient_id"] = [f"{prefix}-{number:03}" for number in range(len(patients))]
    values = np.random.default_rng(seed).normal(size=(len(patients), len(names)))
    expression = pd.DataFrame(values.astype(np.float32), index=patients["patient_id"], columns=list(names))
    for file, patient in zip(sorted(features.glob("*.h5")), patients["patient_id"], strict=True):
        file.rename(features / f"{patient}-S.h5")
    slides["patient_id"] = list(patients["patient_id"])
    slides["slide_id"] = [f"{patient}-S" for patient in patients["patient_id"]]
    changed = tables.read_info(cohort).model_copy(update={"name": prefix.lower(), **info})
    write(cohort, patients, expression, slides, changed)
    return cohort, features


def write(cohort, patients, expression, slides, info):
    tables.write(tables.Cohort(patients, expression, slides, info), cohort)


def change(cohort, patients=None, expression=None, slides=None, **info):
    """Write the tables of a cohort again after functions of each of them."""
    parts = [tables.read_patients(cohort), tables.read_expression(cohort), tables.read_slides(cohort)]
    new = [part if f is None else f(part) for f, part in zip((patients, expression, slides), parts, strict=True)]
    write(cohort, *new, tables.read_info(cohort).model_copy(update=info))


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohorts")
    for name, seed in (("target", 0), ("source", 5), ("third", 6)):
        factories.folders(root / name, patients=24, seed=seed)
        rename(root / name, name.upper(), seed=seed)
    return root


@pytest.fixture
def world(cohorts, tmp_path):
    shutil.copytree(cohorts, tmp_path / "world")
    return tmp_path / "world"


def facts(world, name, modalities="both", features=True):
    return CohortFacts.read(world / name / "cohort", world / name / "features" if features else None, modalities)


def folds_of(world, tested):
    """One fold; tested: whether each patient of the target is in its test part."""
    ids = tables.read_patients(world / "target" / "cohort")["patient_id"]
    rows = [(name, 0, "test" if test else "train", "" if test else "0") for name, test in zip(ids, tested, strict=True)]
    pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner"]).to_csv(world / "folds.csv", index=False)
    return read_folds(world / "folds.csv")


def check(world, *names, modalities="both", covariates=()):
    target, folds = facts(world, "target", modalities), folds_of(world, [number < 12 for number in range(24)])
    return check_sources(target, [facts(world, name, modalities) for name in names], folds, covariates)


def test_sound_sources_are_accepted_with_one_line_each(world, caplog):
    with caplog.at_level(logging.INFO, logger="mcti"):
        checked = check(world, "source", "third", covariates=("age", "grade"))
    assert checked == tuple(
        SourceFiles(str(world / name / "cohort"), str(world / name / "features")) for name in ("source", "third")
    )
    line = caplog.messages[0]
    assert line.startswith("source source (")
    assert "24 patients" in line
    assert "40 of 40 genes shared; slides used" in line
    assert "no values of grade" in line
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"endpoint": "DSS"}, "the endpoint is DSS, that of the cohort OS"),
        ({"expression_scale": "counts"}, "the expression scale is counts, that of the cohort log2"),
    ],
)
def test_another_endpoint_or_scale_is_refused(world, info, message):
    change(world / "source" / "cohort", **info)
    with pytest.raises(DataError, match=message):
        check(world, "third", "source")


def test_values_in_another_unit_and_times_in_days_are_refused(world):
    change(world / "source" / "cohort", expression=lambda table: table + 50)
    with pytest.raises(DataError, match="the medians of 40 of 40 genes are outside"):
        check(world, "source")
    change(world / "third" / "cohort", patients=lambda table: table.assign(time_months=table["time_months"] * 100))
    with pytest.raises(DataError, match="more than 1200"):
        check(world, "third")


def test_another_unit_is_stated_before_patients_with_equal_profiles(world):
    """Profiles standardised within each cohort do not depend on the unit: those of a copy are equal."""
    of_target = tables.read_expression(world / "target" / "cohort").to_numpy()

    def in_another_unit(table):
        return pd.DataFrame(of_target * 100 + 500, index=table.index, columns=table.columns)

    change(world / "source" / "cohort", expression=in_another_unit)
    with pytest.raises(DataError, match="the medians of 40 of 40 genes are outside"):
        check(world, "source")


@pytest.mark.parametrize("factor", [30.44, 1 / 12])
def test_short_times_in_days_and_times_in_years_are_refused(world, factor):
    """Days below 1,200, which the limit of months does not find."""
    for name in ("target", "source"):
        change(world / name / "cohort", patients=lambda table: table.assign(time_months=3 + np.arange(24.0)))
    check(world, "source")
    change(world / "source" / "cohort", patients=lambda table: table.assign(time_months=table["time_months"] * factor))
    assert tables.read_patients(world / "source" / "cohort")["time_months"].max() < 1200
    with pytest.raises(DataError, match=f"the median of time_months is {14.5 * factor:.4g}, that of the cohort 14.5"):
        check(world, "source")


@pytest.mark.parametrize(("shared", "warned"), [(19, True), (20, False)])
def test_few_shared_genes_are_a_warning_since_profiles_are_not_compared(world, caplog, shared, warned):
    names = [name if number < shared else f"other_{name}" for number, name in enumerate(NAMES)]
    change(world / "source" / "cohort", expression=lambda table: table.set_axis(names, axis=1))
    with caplog.at_level(logging.WARNING, logger="mcti"):
        check(world, "source")
    expected = "19 shared genes are too few (of 20) to recognise a patient of the cohort under another id"
    assert (expected in caplog.text) is warned
    assert len(caplog.messages) == warned


def add_column(world, name, column):
    """Late entry of all patients, or competing events of all patients without the event."""
    values = {"entry_months": lambda table: 0.0 * table["event"], "competing": lambda table: 1 - table["event"]}
    change(world / name / "cohort", patients=lambda table: table.assign(**{column: values[column]}))


@pytest.mark.parametrize(
    ("column", "in_source", "in_target"),
    [
        ("competing", "has competing events (column competing), the cohort has none: they count as censored; the "
         "event of both must be of the same cause", "has no competing events (column competing), the cohort has: "),
        ("entry_months", "has late entry (column entry_months), the cohort has none: without this column, all patients "
         "count as at risk from the origin", "has no late entry (column entry_months), the cohort has: "),
    ],
)  # fmt: skip
def test_a_column_of_the_outcome_in_one_of_the_two_cohorts_is_a_warning(world, caplog, column, in_source, in_target):
    caplog.set_level(logging.WARNING, logger="mcti")
    add_column(world, "source", column)
    assert len(check(world, "source", "third")) == 2
    assert len(caplog.messages) == 1
    assert caplog.messages[0] == f"{facts(world, 'source').where} {in_source}"
    caplog.clear()
    add_column(world, "target", column)
    assert len(check(world, "source", "third")) == 2
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{facts(world, 'third').where} {in_target}")


def test_a_pool_warns_of_competing_events_in_one_cohort_and_refuses_late_entry_in_one(world, caplog):
    caplog.set_level(logging.WARNING, logger="mcti")
    add_column(world, "third", "competing")
    cohorts = [facts(world, name) for name in ("target", "source", "third")]
    assert len(check_pool(cohorts)) == 3
    assert [text.split(" (")[0] for text in caplog.messages] == ["source third"]
    add_column(world, "source", "entry_months")
    cohorts[1] = facts(world, "source")
    with pytest.raises(
        DataError, match=r"has the column entry_months in source source .* \(0: observed from the origin"
    ):
        check_pool(cohorts)


def set_encoder(world, name, **attributes):
    for path in (world / name / "features").glob("*.h5"):
        with h5py.File(path, "a") as file:
            file.attrs.update(attributes)


def test_another_encoder_leaves_the_genes_and_is_logged(world, caplog):
    set_encoder(world, "target", encoder="uni")
    set_encoder(world, "source", encoder="conch")
    with caplog.at_level(logging.INFO, logger="mcti"):
        [files] = check(world, "source")
    assert files.features is None
    assert "genes only: its features have encoder conch, those of the cohort uni" in caplog.text
    change(world / "source" / "cohort", expression=lambda table: table.add_prefix("other_"))
    with pytest.raises(DataError, match="none of the 40 genes of the cohort, and its features have encoder conch"):
        check(world, "source")
    with pytest.raises(DataError, match="no slides to learn from: its features have encoder conch"):
        check(world, "source", modalities="slides")


def test_another_width_is_another_encoder_where_no_file_names_it(world):
    for path in (world / "source" / "features").glob("*.h5"):
        with h5py.File(path, "a") as file:
            rows = len(file["features"])
            del file["features"]
            file["features"] = np.zeros((rows, factories.WIDTH + 1), dtype=np.float32)
    assert check(world, "source")[0].features is None


def test_a_source_without_a_shared_gene_is_refused_and_genes_that_differ_in_part_are_not(world):
    change(world / "third" / "cohort", expression=lambda table: table[["G3", "G1"]])
    assert len(check(world, "third")) == 1
    change(world / "source" / "cohort", expression=lambda table: table.add_suffix("_x"))
    with pytest.raises(DataError, match="shares none of the 40 genes"):
        check(world, "source")


def test_a_patient_of_the_cohort_in_a_source_is_refused_by_id_slide_and_profile(world):
    target = tables.read_expression(world / "target" / "cohort")
    cohort = world / "source" / "cohort"
    with pytest.raises(DataError, match="the source is the cohort itself"):
        check(world, "target")
    profile = target.loc["TARGET-004"].to_numpy()

    def copy_profile(table):
        table.loc["SOURCE-007"] = np.round(profile, 2)
        return table

    change(cohort, expression=copy_profile)
    with pytest.raises(DataError, match=r"1 of its 24 patients .*'SOURCE-007' \(expression profile of 'TARGET-004'\)"):
        check(world, "source")
    slide = {"SOURCE-002-S": "TARGET-009-S"}
    change(cohort, slides=lambda table: table.assign(slide_id=table["slide_id"].replace(slide)))
    (world / "source/features/SOURCE-002-S.h5").rename(world / "source/features/TARGET-009-S.h5")
    with pytest.raises(DataError, match=r"2 of its 24 .*'SOURCE-002' \(slide TARGET-009-S of 'TARGET-009'\)"):
        check(world, "source")
    patient = {"SOURCE-001": "TARGET-001"}
    change(cohort, patients=lambda table: table.assign(patient_id=table["patient_id"].replace(patient)))
    with pytest.raises(DataError, match=r"3 of its 24 .*'TARGET-001' \(patient id\)"):
        check(world, "source")


def test_a_source_is_listed_once_and_no_patient_is_in_two_sources(world):
    with pytest.raises(DataError, match="the source is listed twice"):
        check(world, "source", "source")
    change(world / "third" / "cohort", patients=lambda t: t.assign(patient_id=["SOURCE-005", *t["patient_id"][1:]]))
    with pytest.raises(DataError, match="1 of its patients are also in source source"):
        check(world, "source", "third")


def test_sites_of_the_cohort_are_refused_where_its_folds_are_by_site(world):
    change(world / "target" / "cohort", patients=lambda table: table.assign(site=["A", "B"] * 12))
    change(world / "source" / "cohort", patients=lambda table: table.assign(site=["B", "C"] * 12))
    assert len(check(world, "source")) == 1
    by_site = folds_of(world, [False, True] * 12)
    assert grouped_by_site(by_site, facts(world, "target").patients)
    with pytest.raises(DataError, match="12 of its patients are of sites of the cohort, whose folds are by site: B"):
        check_sources(facts(world, "target"), [facts(world, "source")], by_site)


def test_a_missing_folder_is_named(world):
    with pytest.raises(DataError, match="no cohort") as caught:
        CohortFacts.read(world / "missing", None, "both")
    assert caught.value.where == str(world / "missing")
    with pytest.raises(DataError, match="no such folder of features"):
        CohortFacts.read(world / "source" / "cohort", world / "missing", "both")


def prior(cohort=None, patients=(), encoder="hed44", names=NAMES, values=None):
    """A prior whose one member was cohorts for these genes; values: (n,) of each gene of its profile."""
    config = preset("tiny", features=factories.WIDTH, genes=names, classes=("a", "b"), bins=3)
    scales = [Scale(torch.zeros(size), torch.ones(size)) for size in (len(names), factories.WIDTH)]
    member = TrainedModel(MCTI(config), config, Fitted(*scales, (0.0, 20.0, 50.0, 200.0)))
    column = ColumnProfile.fit(np.linspace(-3, 3, 50) if values is None else values)
    families = {"genes": dict.fromkeys(names, column)}
    profile = ReferenceProfile(50, 20, families, {}, column)
    record = {"name": "luad", "endpoint": "OS", "expression_scale": "log2"} | (cohort or {})
    hashes = frozenset(map(hashed, patients))
    return Prior("pan", "2", "0" * 64, {"fold_0": member}, {"fold_0": profile}, hashes, record, {"encoder": encoder})


def test_a_prior_with_the_same_encoder_keeps_its_weights_on_slides_and_another_one_its_genes(world, caplog):
    set_encoder(world, "target", encoder="hed44")
    target = facts(world, "target")
    with caplog.at_level(logging.INFO, logger="mcti"):
        assert check_prior(prior(), target)
        assert not check_prior(prior(encoder="conch"), target)
    assert caplog.messages[0] == "prior pan, version 2: 40 of 40 genes shared"
    assert "genes only: its features have encoder conch, those of the cohort hed44" in caplog.messages[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patients": ("TARGET-003", "X")}, "trained on 1 patients of the cohort: 'TARGET-003'"),
        ({"cohort": {"endpoint": "PFI"}}, "the endpoint is PFI, that of the cohort OS"),
        ({"cohort": {"expression_scale": "z-score"}}, "the expression scale is z-score"),
        ({"names": ("H1", "H2"), "encoder": "conch"}, "shares none of the 40 genes"),
        ({"values": np.linspace(100, 200, 50)}, "the medians of 40 of 40 genes are outside"),
    ],
)
def test_a_prior_that_does_not_fit_the_cohort_is_refused(world, changes, message):
    set_encoder(world, "target", encoder="hed44")
    with pytest.raises(DataError, match=message) as caught:
        check_prior(prior(**changes), facts(world, "target"))
    assert caught.value.where == "prior pan, version 2"
