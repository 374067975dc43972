"""`mcti init` on the forms of one simulated cohort, up to a data contract that DVC ran. The truth is the simulation."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mcti import params
from mcti.cli import command_context
from mcti.cli.app import app
from mcti.cohort import tables
from mcti.errors import DataError, UsageError
from mcti.project import files
from mcti.project import init as projects
from mcti.project.clinical import Answers
from mcti.project.endpoints import Outcome
from mcti.project.examples import EXAMPLES
from mcti.project.proposal import Sources
from mcti.steps.ingest import ingest
from tests import command_blocks
from tests.project.cohorts import FORMS, canonical, cohort, two_endpoints, windows

NAMES = {"clinical": "clinical", "expression": "genes", "slides": "slides"}


def run(programs, program, *arguments, cwd):
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    command, environment = [str(programs / program), *arguments], {**os.environ, "PATH": path}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("form", ["windows", "in_days", "gdc_tsv", "gdc_json"])
def test_every_form_reaches_the_data_contract_by_the_proposals(form, preloaded, tmp_path):
    """The command, then DVC in the folder that it wrote."""
    printed = run(preloaded, "mcti", "init", "project", *FORMS[form](tmp_path), "--yes", cwd=tmp_path)
    assert "80 patients, 32 events" in printed
    assert "check      " not in printed
    run(preloaded, "dvc", "repro", "validate", cwd=tmp_path / "project")
    assert (tmp_path / "project/reports/validation/profile.json").is_file()  # only where the contract holds


@pytest.mark.slow
def test_the_commands_of_the_tutorial_make_a_project_of_the_tables_in_it(preloaded, tmp_path):
    """The blocks of own-tables.md; only the installation and the servers are left out."""
    page = command_blocks.ROOT / "docs/tutorial/own-tables.md"
    init, several = (block.text for block in command_blocks.blocks(page) if "test_init.py" in block.title)
    raw = tmp_path / "one/data/raw"
    raw.mkdir(parents=True)
    canonical(raw)
    (raw / "genes.csv").rename(raw / "expression.csv")
    environment = {**os.environ, "PATH": f"{preloaded}{os.pathsep}{os.environ['PATH']}"}
    command_blocks.run([init, "dvc add data/raw", "dvc repro validate"], tmp_path / "one", environment)
    assert (tmp_path / "one/reports/validation/profile.json").is_file()
    raw = tmp_path / "two/data/raw"
    raw.mkdir(parents=True)
    two_endpoints(raw)
    (raw / "genes.csv").rename(raw / "expression.csv")
    command_blocks.run([several], tmp_path / "two", environment)
    assert len(tables.read_patients(tmp_path / "two/data/DFI/cohort")) == 70


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_cohort_for_ingest(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(projects.dvc_program, "run", lambda *_, **__: "")
    flags = FORMS[form](tmp_path)
    names = [flag.removeprefix("--") for flag in flags[::2]]
    result = projects.init(tmp_path / "p", "p", Sources(**dict(zip(names, flags[1::2], strict=True))), Answers())
    assert result.check == ()
    monkeypatch.chdir(tmp_path / "p")
    settings = params.load("params.yaml").ingest
    result = ingest(settings.clinical, settings.expression, settings.slides, settings, Path("data/cohort"))
    assert not result.warnings
    truth, genes, _ = cohort()
    patients = tables.read_patients("data/cohort")
    assert patients["patient_id"].tolist() == truth["patient_id"].tolist()
    np.testing.assert_allclose(patients["time_months"], truth["time_months"], atol=0.02)  # days are whole numbers
    for column in ("event", "is_female", "site", "subtype"):
        assert patients[column].tolist() == truth[column].tolist()
    np.testing.assert_allclose(patients["age"], truth["age"], atol=0.1)
    values = genes.drop(columns="patient_id").to_numpy()
    expected = np.log2(values + 1) if form == "gdc_json" else values
    np.testing.assert_allclose(tables.read_expression("data/cohort").to_numpy(), expected, rtol=1e-4)


def make(tmp_path, monkeypatch, **answers):
    monkeypatch.chdir(tmp_path)
    canonical(tmp_path)
    monkeypatch.setattr(projects.dvc_program, "run", lambda *_, **__: "")
    sources = Sources(clinical="clinical.csv", expression="genes.csv", slides="slides.csv")
    return projects.init(tmp_path / "p", "lung", sources, Answers(**answers))


def test_a_second_call_keeps_every_file_and_names_the_edited_ones(tmp_path, monkeypatch):
    first = make(tmp_path, monkeypatch)
    assert first.written > 20
    (tmp_path / "p/params.yaml").write_text("# mine\n")
    second = make(tmp_path, monkeypatch)
    assert (second.written, second.kept) == (0, ("params.yaml",))
    assert "kept as they are: params.yaml" in "\n".join(second.lines())
    assert (tmp_path / "p/params.yaml").read_text() == "# mine\n"


def test_each_of_two_end_points_is_a_cohort_of_one_project(tmp_path, monkeypatch):
    """The table codes and measures the two differently; the truth is that of the simulation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(projects.dvc_program, "run", lambda *_, **__: "")
    _, relapses = two_endpoints(tmp_path)
    sources = Sources(clinical="clinical.csv", expression="genes.csv", slides="slides.csv")
    result = projects.init(tmp_path / "p", "lung", sources, Answers(endpoints={"OS": None, "DFI": None}))
    lines = "\n".join(result.lines())
    assert "OS: 80 patients, 32 events" in lines
    assert f"DFI: 70 patients, {relapses['event'].sum()} events" in lines
    command = "mcti ingest --set ingest.endpoint=DFI --out data/DFI/cohort"
    assert command in lines
    monkeypatch.chdir(tmp_path / "p")
    assert command in Path("README.md").read_text(encoding="utf-8")
    settings = params.load("params.yaml").ingest
    assert (settings.endpoint, list(settings.endpoints), settings.covariates) == ("OS", ["OS", "DFI"], ())
    for name, truth in {"OS": cohort()[0], "DFI": relapses}.items():
        selected = settings.model_copy(update={"endpoint": name})
        ingest(settings.clinical, settings.expression, settings.slides, selected, Path(f"data/{name}/cohort"))
        patients = tables.read_patients(f"data/{name}/cohort")
        assert patients["patient_id"].tolist() == truth["patient_id"].tolist()
        assert patients["event"].tolist() == truth["event"].tolist()
        np.testing.assert_allclose(patients["time_months"], truth["time_months"], atol=0.02)


XENA_GENES = "sample\t" + "\t".join(f"P{n}-01" for n in range(12)) + "\nTP53" + "\t5.5" * 12 + "\n"


def xena(tmp_path):
    """Twelve patients whose OS and PFI differ, in days."""
    (tmp_path / "study").mkdir()
    phenotype = "sampleID\tsample_type\tage_at_initial_pathologic_diagnosis\tgender\thistological_type"
    phenotype += "\ttissue_source_site\n"
    phenotype += "".join(f"P{n}-01\tPrimary Tumor\t50\tMALE\tIDC\tX\n" for n in range(12))
    survival = "sample\t_PATIENT\tOS\tOS.time\tPFI\tPFI.time\n"
    survival += "".join(f"P{n}-01\tP{n}\t{n % 2}\t{3000 - n}\t{n % 3 // 2}\t{900 + n}\n" for n in range(12))
    texts = {"study/clinicalMatrix": phenotype, "study/survival": survival, "HiSeqV2": XENA_GENES}
    texts["slides.csv"] = "patient_id,slide_id\n" + "".join(f"P{n},S{n}\n" for n in range(12))
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return Sources(clinical="study", expression="HiSeqV2", slides="slides.csv")


def test_two_end_points_of_a_layout_are_found_without_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = projects.init(tmp_path / "p", "lung", xena(tmp_path), Answers(endpoints={"PFI": None, "OS": None}))
    lines = "\n".join(result.lines())
    assert "PFI: 12 patients, 4 events" in lines
    assert "OS: 12 patients, 6 events" in lines
    settings = params.load(tmp_path / "p/params.yaml").ingest
    assert (settings.endpoint, settings.endpoints) == ("PFI", {})
    for name, first in {"PFI": 900, "OS": 3000}.items():
        selected = settings.model_copy(update={"endpoint": name})
        ingest("study", "HiSeqV2", "slides.csv", selected, tmp_path / name)
        assert tables.read_patients(tmp_path / name)["time_months"][0] == pytest.approx(first / 30.4375)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"endpoints": {"OS": Outcome("OS.time", "OS")}}, "finds the columns by the end point.*--endpoint"),
        ({"sex_values": {"1": "1"}}, "defines the values of sex.*--sex-value"),
        ({"endpoints": {"OS": None, "DFI": None}}, "DFI"),
    ],
)
def test_answers_that_a_layout_does_not_need_or_have_are_one_error(answers, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, UsageError), match=message):
        projects.init(tmp_path / "p", "lung", xena(tmp_path), Answers(**answers))
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--endpoint", "os"], "no end point 'os' in --endpoint: one of OS, DSS"),
        (["--endpoint", "OS", "--endpoint", "OS"], "OS is stated twice in --endpoint"),
        (["--endpoint", "DFI=DFI_months"], "has not the form NAME=TIMES,EVENTS"),
        (["--endpoint", "OS", "--endpoint", "DFI", "--time", "OS_days"], "do not state their end point"),
        (["--sex-value", "1=w"], "'1' means 'w' in --sex-value: write female, male or missing"),
        (["--sex-value", "1"], "'1' has not the form NAME=VALUE in --sex-value"),
    ],
)
def test_flags_in_another_form_are_usage_errors(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tables_of_user, _ = two_endpoints(tmp_path)
    assert command_context.run_app(app, ["init", "p", *tables_of_user, *flags, "--yes"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_the_commands_for_another_end_point_are_understood_by_their_parsers():
    text = files.common_files("lung")["README.md"]
    script = text.partition("## Another end point")[2].split("```")[1]
    assert len(command_blocks.commands(script)) == 6
    assert [why for words in command_blocks.commands(script) if (why := command_blocks.fault(words))] == []


def test_columns_of_another_end_point_are_not_taken_for_the_stated_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags, _ = two_endpoints(tmp_path)
    sources = Sources(clinical=flags[1], expression=flags[3], slides=flags[5])
    with pytest.raises(DataError, match=r"no column has a known name of time_months of DSS .*--time"):
        projects.init(tmp_path / "p", "lung", sources, Answers(endpoints={"DSS": None}))
    assert not (tmp_path / "p").exists()


def test_a_source_in_the_folder_of_converted_tables_is_kept(tmp_path, monkeypatch):
    """The tables of a user who begins with data/raw of the project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(projects.dvc_program, "run", lambda *_, **__: "")
    (tmp_path / "data/raw").mkdir(parents=True)
    windows(tmp_path / "data/raw")
    before = (tmp_path / "data/raw/clinical.csv").read_bytes()
    sources = Sources(**{name: f"data/raw/{file}.csv" for name, file in NAMES.items()})
    result = projects.init(tmp_path, "lung", sources, Answers())
    assert result.kept == ()
    assert (tmp_path / "data/raw/clinical.csv").read_bytes() == before
    settings = params.load("params.yaml").ingest
    assert settings.clinical == "data/raw/clinical_converted.csv"
    ingest(settings.clinical, settings.expression, settings.slides, settings, Path("data/cohort"))
    assert len(tables.read_patients("data/cohort")) == 80


def test_tables_that_ingest_reads_are_used_where_they_are(tmp_path, monkeypatch):
    make(tmp_path, monkeypatch)
    tree = yaml.safe_load((tmp_path / "p/params.yaml").read_text(encoding="utf-8"))
    assert tree["ingest"]["clinical"] == str(tmp_path / "clinical.csv")
    assert not (tmp_path / "p/data").exists()
    assert set(tree) == {f.alias or n for n, f in params.Settings.model_fields.items()}


def test_stated_values_replace_the_proposals(tmp_path, monkeypatch):
    make(tmp_path, monkeypatch, endpoints={"PFI": None}, covariates=("age",), columns={"subtype": "site"})
    ingest = params.load(tmp_path / "p/params.yaml").ingest
    assert (ingest.endpoint, ingest.columns) == ("PFI", {"subtype": "site"})
    assert params.load(tmp_path / "p/params.yaml").train.architecture.covariates == ("age",)


def test_inverted_events_are_a_question(tmp_path, monkeypatch):
    result = make(tmp_path, monkeypatch, event_values={"0": 1, "1": 0})
    assert any("event is probably inverted" in question for question in result.check)
    assert any("--event-confirmed" in question for question in result.check)


def test_a_stated_competing_event_is_counted_and_no_event(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    canonical(tmp_path)
    table = pd.read_csv("clinical.csv")
    other_death = (table["event"] == 0) & (np.arange(len(table)) % 3 == 0)
    table.assign(event=table["event"].mask(other_death, 2), competing_cause="x").to_csv("clinical.csv", index=False)
    monkeypatch.setattr(projects.dvc_program, "run", lambda *_, **__: "")
    sources = Sources(clinical="clinical.csv", expression="genes.csv", slides="slides.csv")
    result = projects.init(tmp_path / "p", "lung", sources, Answers(event_values={"2": 2}))
    lines = "\n".join(result.lines())
    assert f"80 patients, 32 events, {other_death.sum()} competing events, 12 genes" in lines
    assert f"2 = competing event ({other_death.sum()})" in (tmp_path / "p/params.yaml").read_text()
    assert params.load(tmp_path / "p/params.yaml").ingest.event_values == {"0": 0, "1": 1, "2": 2}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.drop(columns="time_months"), DataError, "no column has a known name of time_months .*--time"),
        (lambda t: t.assign(event="perhaps"), DataError, "values of unknown meaning: 'perhaps' .*column event"),
        (
            lambda t: t.assign(event=[str(n % 3) for n in range(len(t))]),
            DataError,
            r"values of unknown meaning: '2' .*column event.*3 values \(0: \d+, 1: \d+, 2: \d+\).*competing event",
        ),
        (lambda t: t.assign(time_months="x"), DataError, "time_months is 'x', not a number"),
        (
            lambda t: t.assign(patient_id=[f"P{n}" for n in range(len(t))]),
            DataError,
            "no patient of the clinical table",
        ),
    ],
)
def test_bad_tables_are_one_error_and_nothing_is_written(tmp_path, monkeypatch, change, error, message):
    monkeypatch.chdir(tmp_path)
    canonical(tmp_path)
    change(pd.read_csv("clinical.csv", dtype=str)).to_csv("clinical.csv", index=False)
    sources = Sources(clinical="clinical.csv", expression="genes.csv", slides="slides.csv")
    with pytest.raises(error, match=message):
        projects.init(tmp_path / "p", "lung", sources, Answers())
    assert not (tmp_path / "p").exists()


def test_missing_tables_are_usage_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    canonical(tmp_path)
    with pytest.raises(UsageError, match="--expression"):
        projects.init(tmp_path / "p", "lung", Sources(clinical="clinical.csv", slides="slides.csv"), Answers())
    with pytest.raises(UsageError, match="--features"):
        projects.init(tmp_path / "p", "lung", Sources(clinical="clinical.csv", expression="genes.csv"), Answers())
    with pytest.raises(DataError, match="no such file"):
        projects.init(tmp_path / "p", "lung", Sources(clinical="absent.csv"), Answers())


def test_answers_of_the_user_replace_the_proposals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    canonical(tmp_path)
    replies = {"end point": "DSS", "scale": "counts", "covariates": "none", "unit": "days"}

    def prompt(question, proposed):
        return next((reply for word, reply in replies.items() if question.startswith(word)), proposed)

    sources = Sources(clinical="clinical.csv", expression="genes.csv", slides="slides.csv")
    projects.init(tmp_path / "p", "lung", sources, Answers(), prompt)
    settings = params.load(tmp_path / "p/params.yaml")
    assert (settings.ingest.endpoint, settings.ingest.time_unit) == ("DSS", "days")
    assert (settings.ingest.expression_scale, settings.train.architecture.covariates) == ("counts", ())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_valid_project_and_is_printed_without_a_folder(name, tmp_path):
    result = projects.init_example(tmp_path / "p", name)
    assert result.check
    settings = params.load(tmp_path / "p/params.yaml")
    assert settings.register_.name == EXAMPLES[name][0]["register"]["name"]
    assert "\n".join(projects.example(name).lines()) + "\n" == (tmp_path / "p/params.yaml").read_text(encoding="utf-8")


def test_an_unknown_example_lists_the_known_ones():
    with pytest.raises(UsageError, match="tcga"):
        projects.example("tcgaa")
