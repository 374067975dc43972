"""The canonical layout, and every layout on S3."""

import json

import pandas as pd
import pytest
from pydantic import ValidationError

from mcti import s3, storage
from mcti.cohort import tables
from mcti.errors import DataError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort.layout_files import CBIOPORTAL, GDC_CASES, MCAT, SAMPLE_SHEET, XENA, star_file, write_files


def test_canonical_columns_may_have_other_names(tmp_path):
    clinical = pd.DataFrame(
        {"id": ["a", "b"], "hospital": "x", "age": 50, "is_female": 1, "class": "k", "months": [1, 2], "dead": [0, 1]}
    )
    clinical.to_csv(tmp_path / "clinical.csv", index=False)
    pd.DataFrame({"patient_id": ["a", "b"], "G": [1.0, 2.0]}).to_csv(tmp_path / "genes.csv", index=False)
    names = {"patient_id": "id", "site": "hospital", "subtype": "class", "time_months": "months", "event": "dead"}
    params = IngestParams(columns=names)
    result = ingest(tmp_path / "clinical.csv", tmp_path / "genes.csv", None, params, tmp_path / "out")
    assert (result.patients, result.events) == (2, 1)
    assert tables.read_info(tmp_path / "out").covariates == ()


@pytest.mark.parametrize("cell", [">89", "> 89", ">=90", "90+", "<18"])
def test_masked_ages_are_mapped_by_one_setting(tmp_path, cell):
    clinical = f"patient_id,site,age,is_female,subtype,time_months,event\na,x,{cell},1,k,3,1\nb,x,50,1,k,4,0\n"
    write_files(tmp_path, {"c.csv": clinical, "g.csv": "patient_id,G\na,1\nb,2\n"})

    def read(**settings):
        ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, IngestParams(**settings), tmp_path / "out")
        return tables.read_patients(tmp_path / "out")["age"].tolist()

    with pytest.raises(DataError, match=r"ingest\.age_values: \{.*YEARS"):
        read()
    assert read(age_values={cell.replace(" ", ""): 90}) == [90.0, 50.0]


def test_without_an_age_column_every_age_is_missing(tmp_path):
    clinical = "patient_id,site,is_female,subtype,time_months,event\na,x,1,k,3,1\nb,x,1,k,4,0\n"
    write_files(tmp_path, {"c.csv": clinical, "g.csv": "patient_id,G\na,1\nb,2\n"})
    result = ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, IngestParams(), tmp_path / "out")
    assert tables.read_patients(tmp_path / "out")["age"].isna().all()
    assert any("the age of every patient is missing" in warning for warning in result.warnings)
    write_files(
        tmp_path, {"c.csv": clinical.replace("site", "Age,site").replace("a,x", "a,50,x").replace("b,x", "b,5,x")}
    )
    with pytest.raises(DataError, match=r"column 'age' is missing .*did you mean Age"):
        ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, IngestParams(), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("layout", ["mcat", "tcga-cbioportal", "xena", "gdc", "canonical"])
def test_every_layout_is_read_from_s3_as_from_a_folder(tmp_path, servers_of, layout):
    canonical = {
        "c.csv": "patient_id,site,age,is_female,subtype,time_months,event\na,x,50,1,k,3,1\nb,x,50,1,k,4,0\n",
        "g.csv": "patient_id,G\na,1\nb,2\n",
    }
    cases = {"gdc/clinical.json": json.dumps(GDC_CASES), "gdc/star/gdc_sample_sheet.2026.tsv": SAMPLE_SHEET}
    files, clinical, expression = {
        "canonical": (canonical, "c.csv", "g.csv"),
        "mcat": ({"all.csv": MCAT}, "all.csv", "all.csv"),
        "tcga-cbioportal": ({f"study/{n}": t for n, t in CBIOPORTAL.items()}, "study", "study/data_mrna.txt"),
        "xena": (XENA, "clinical", "HiSeqV2"),
        "gdc": (
            {**cases, "gdc/star/id-1/a.tsv": star_file(2141, 5), "gdc/star/b.tsv": star_file(11, 0)},
            "gdc/clinical.json",
            "gdc/star",
        ),
    }[layout]
    write_files(tmp_path / "local-source", files)
    for name, text in files.items():
        s3.put(f"s3://mcti-data/{layout}/{name}", text.encode())
    params = IngestParams(format=layout, expression_scale="counts" if layout == "gdc" else "log2")
    for base, out in ((str(tmp_path / "local-source"), "local"), (f"s3://mcti-data/{layout}", "s3")):
        ingest(storage.join(base, clinical), storage.join(base, expression), None, params, tmp_path / out)
    for name in ("patients.parquet", "expression.parquet", "slides.parquet"):
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "s3" / name).read_bytes()
    local, fetched = (tables.read_info(tmp_path / out) for out in ("local", "s3"))
    assert local.sources == fetched.sources
    # Warnings name the address of the user, not the local copy.
    assert [w.replace(str(tmp_path / "local-source"), f"s3://mcti-data/{layout}") for w in local.warnings] == list(
        fetched.warnings
    )


ENDPOINTS = {"OS": {"time_months": "OS_days", "event": "OS"}, "DFI": {"time_months": "DFI_days", "event": "DFI"}}
TWO_ENDPOINTS = (
    "patient_id,site,age,is_female,subtype,OS_days,OS,DFI_days,DFI,stage\n"
    "a,x,50,1,k,365.25,1,30.4375,1,I\nb,x,60,1,k,730.5,0,,,II\nc,x,70,0,k,1461,0,60.875,0,I\n"
)


def read_endpoint(folder, endpoint, **changes):
    write_files(folder, {"c.csv": TWO_ENDPOINTS, "g.csv": "patient_id,G\na,1\nb,2\nc,3\n"})
    settings = {"endpoint": endpoint, "endpoints": ENDPOINTS, "time_unit": "days"} | changes
    out = folder / f"{endpoint} cohort"
    ingest(folder / "c.csv", folder / "g.csv", None, IngestParams.model_validate(settings), out)
    return tables.read_patients(out), tables.read_info(out)


def test_one_of_several_endpoints_is_read_and_no_outcome_is_a_covariate(tmp_path):
    patients, info = read_endpoint(tmp_path, "OS")
    assert patients["time_months"].tolist() == [12.0, 24.0, 48.0]
    assert patients["event"].tolist() == [1, 0, 0]
    assert (info.endpoint, info.covariates) == ("OS", ("stage",))
    patients, info = read_endpoint(tmp_path, "DFI")
    assert patients["time_months"].tolist() == [1.0, 2.0]
    assert (info.endpoint, info.covariates) == ("DFI", ("stage",))
    assert [(one.patient_id, one.reason) for one in info.attrition] == [("b", "no follow-up")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": "PFI"}, "ingest.endpoints lists OS, DFI: add its columns"),
        ({"format": "xena"}, "format xena finds the columns by `endpoint`"),
        ({"columns": {"event": "OS"}}, "ingest.endpoints names this column"),
        ({"covariates": ["stage", "DFI"]}, "an outcome of ingest.endpoints is no covariate"),
    ],
)
def test_settings_that_contradict_the_endpoints_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        IngestParams.model_validate({"endpoints": ENDPOINTS} | changes)


def test_a_misspelled_column_of_any_endpoint_is_named(tmp_path):
    endpoints = ENDPOINTS | {"DFI": {"time_months": "DFI_day", "event": "DFI"}}
    with pytest.raises(DataError, match=r"'DFI_day', set in ingest.endpoints.DFI, is missing .*did you mean DFI_days"):
        read_endpoint(tmp_path, "OS", endpoints=endpoints)
