"""Columns of sex whose values do not state which is female: a question of `mcti init`, and the flag that answers it."""

import shutil

import pandas as pd
import pytest

from mcti import params
from mcti.cli import command_context
from mcti.cli.app import app
from mcti.cohort import tables
from mcti.errors import DataError
from mcti.project import init as projects
from mcti.project.clinical import Answers
from mcti.project.proposal import Sources
from mcti.steps.ingest import ingest
from tests.project.cohorts import canonical, cohort


def sex_as(tmp_path, monkeypatch, codes):
    """A project folder whose table has the column `sex` with codes {1 or 0 of the truth: cell}."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(projects.dvc_program, "run", lambda *_, **__: "")
    canonical(tmp_path)
    table = pd.read_csv("clinical.csv", dtype=str)
    table.assign(sex=table.pop("is_female").map(codes)).to_csv("clinical.csv", index=False)
    return Sources(clinical="clinical.csv", expression="genes.csv", slides="slides.csv")


def ingested_sex(tmp_path):
    settings = params.load(tmp_path / "p/params.yaml")
    source = settings.ingest.clinical
    path = source if source.startswith("/") else tmp_path / "p" / source
    ingest(str(path), "genes.csv", "slides.csv", settings.ingest, tmp_path / "cohort")
    return tables.read_patients(tmp_path / "cohort")["is_female"], settings.train.architecture.covariates


@pytest.mark.parametrize("codes", [{"1": "1", "0": "0"}, {"1": "0", "0": "1"}, {"1": "2", "0": "1"}])
def test_sex_as_numbers_is_a_question_that_a_flag_answers(codes, tmp_path, monkeypatch):
    sources = sex_as(tmp_path, monkeypatch, codes)
    result = projects.init(tmp_path / "p", "lung", sources, Answers())
    [question] = [line for line in result.lines() if line.startswith("check")]
    assert "which value is female is not known" in question
    assert f"--sex-value {codes['1']}=female" in question
    values, covariates = ingested_sex(tmp_path)
    assert (values.isna().all(), covariates) == (True, ("age",))
    shutil.rmtree(tmp_path / "p")
    shutil.rmtree(tmp_path / "cohort")
    stated = Answers(sex_values={codes["1"]: "1", codes["0"]: "0"})
    assert projects.init(tmp_path / "p", "lung", sources, stated).check == ()
    values, covariates = ingested_sex(tmp_path)
    assert values.tolist() == cohort()[0]["is_female"].tolist()
    assert covariates == ("age", "is_female")


def test_the_question_about_sex_has_an_answer_and_wrong_answers_are_requested_again(tmp_path, monkeypatch):
    sources = sex_as(tmp_path, monkeypatch, {"1": "2", "0": "1"})
    questions = []
    replies = {
        "'2'": ["woman", "female", "female"], "'1'": ["male", "male"], "scale": ["log", "log2"],
        "covariates of": ["agee", "age,is_female"], "end point": ["none", "XY", "OS"],
    }  # fmt: skip

    def prompt(question, proposed):
        questions.append(question)
        return next((r.pop(0) for start, r in replies.items() if question.startswith(start) and r), proposed)

    assert projects.init(tmp_path / "p", "lung", sources, Answers(), prompt).check == ()
    assert "'woman' is none of female, male, missing" in questions
    assert any(line.startswith("error ") and "column 'agee'" in line and "age" in line for line in questions)
    assert "XY: none of OS, DSS, DFI, PFI, DMFS" in questions
    values, covariates = ingested_sex(tmp_path)
    assert values.tolist() == cohort()[0]["is_female"].tolist()
    assert covariates == ("age", "is_female")


@pytest.mark.parametrize("answers", [{"sex_values": {"2": "1"}}, {"columns": {"is_female": "sex"}}])
def test_half_an_answer_about_sex_is_an_error(answers, tmp_path, monkeypatch):
    sources = sex_as(tmp_path, monkeypatch, {"1": "2", "0": "1"})
    with pytest.raises(DataError, match=r"which value of 1, 2 is female is not known .*column sex.*--sex-value 1="):
        projects.init(tmp_path / "p", "lung", sources, Answers(**answers))


def test_flags_name_the_columns_of_an_end_point_and_the_values_of_sex(tmp_path, monkeypatch):
    sources = sex_as(tmp_path, monkeypatch, {"1": "F2", "0": "M1"})
    table = pd.read_csv("clinical.csv", dtype=str)
    table.assign(relapse=table["event"], at=table["time_months"]).to_csv("clinical.csv", index=False)
    flags = ["--clinical", sources.clinical, "--expression", sources.expression, "--slides", sources.slides]
    flags += ["--endpoint", "OS", "--endpoint", "DSS=at,relapse", "--sex-value", "f2=female", "--sex-value", "m1=male"]
    assert command_context.run_app(app, ["init", "p", *flags, "--yes"]) == 0
    endpoints = params.load("p/params.yaml").ingest.endpoints
    assert {name: (one.time_months, one.event) for name, one in endpoints.items()} == {
        "OS": ("time_months", "event"), "DSS": ("at", "relapse")
    }  # fmt: skip
    assert ingested_sex(tmp_path)[0].tolist() == cohort()[0]["is_female"].tolist()
