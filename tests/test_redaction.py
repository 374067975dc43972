"""Redaction of patient ids in sentences, JSON and tables; no change without the option."""

import hashlib
import json

import pytest

from mcti import redaction
from mcti.cli import command_context
from mcti.cli.app import app


@pytest.fixture
def redacting(monkeypatch):
    monkeypatch.setenv("MCTI_REDACT", "1")
    monkeypatch.setattr(redaction, "_registered", {})


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "sentence",
    ["patient {}: no slides", "in clinical.csv, row 17, patient {}", "the risk of patient '{}' is not that", "{} left"],
)
def test_a_known_id_is_replaced_by_its_hash_at_every_position(redacting, sentence):
    redaction.register_ids(["TCGA-A1-A0SB", "Anna"])
    for name in ("TCGA-A1-A0SB", "Anna"):
        assert redaction.text(sentence.format(name)) == sentence.format(sha(name))
    document = json.dumps({"first": ["Anna"], "n": 3})
    assert json.loads(redaction.text(document)) == {"first": [sha("Anna")], "n": 3}
    assert redaction.tree(json.loads(document)) == {"first": [sha("Anna")], "n": 3}


def test_an_id_named_as_a_patients_is_hidden_before_any_table_was_read_and_hidden_once(redacting):
    once = redaction.text("gene 'X' is missing in patient P-0041.")
    assert once == f"gene 'X' is missing in patient {sha('P-0041')}."
    assert redaction.text(once) == once
    assert redaction.text("the patient has no slides") == "the patient has no slides"


def test_an_id_within_a_longer_word_is_hidden_and_a_longer_id_whole(redacting):
    redaction.register_ids(["P-1", "P-1-A", "_x", "B_7"])
    assert redaction.text("no such file in /data/P-1.h5") == f"no such file in /data/{sha('P-1')}.h5"
    assert redaction.text("slide P-1-A-DX1") == f"slide {sha('P-1-A')}-DX1"
    assert redaction.text("P-10, XP-1, B_70 and P-1") == f"P-10, XP-1, B_70 and {sha('P-1')}"
    assert redaction.text("<td>_x</td>") == f"<td>{sha('_x')}</td>"


def test_an_id_that_is_a_number_is_hidden_where_it_is_named_and_a_count_stays_one(redacting):
    """Ids 1 to 20: `20 patients` counts, `patient 17` names."""
    redaction.register_ids(map(str, range(1, 21)))
    assert redaction.text("20 patients, 3 folds") == "20 patients, 3 folds"
    assert redaction.text("patient 17: no slides") == f"patient {sha('17')}: no slides"
    document = {"version": "4", "patients": 20, "patient_id": "4", "refused": {"patients": ["5", "6"]}}
    expected = {"version": "4", "patients": 20, "patient_id": sha("4"), "refused": {"patients": [sha("5"), sha("6")]}}
    assert redaction.tree(document) == expected


def test_without_the_flag_nothing_changes(monkeypatch):
    monkeypatch.delenv("MCTI_REDACT", raising=False)
    redaction.register_ids(["P-1"])
    assert redaction.text("patient P-1") == "patient P-1"
    assert redaction.redact_id("P-1") == "P-1"


def test_an_error_on_the_command_line_names_no_patient(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(redaction, "_registered", {})
    monkeypatch.chdir(tmp_path)  # no params.yaml
    monkeypatch.setenv("MCTI_REDACT", "")  # restored after the test: the option sets it
    clinical = tmp_path / "clinical.csv"
    clinical.write_text("patient_id,time_months,event,age,is_female,subtype,site\nP-0041,12y,1,50,1,a,x\n")
    (tmp_path / "expression.csv").write_text("patient_id,A\nP-0041,1\n")
    files = [
        "--clinical",
        str(clinical),
        "--expression",
        str(tmp_path / "expression.csv"),
        "--out",
        str(tmp_path / "c"),
    ]
    assert command_context.run_app(app, ["ingest", *files, "--json", "--redact", "--set", "ingest.slides=null"]) == 3
    output = capsys.readouterr()
    assert "P-0041" not in output.out + output.err
    assert sha("P-0041") in output.err
