"""Invalid source tables: each gives one error with the file, the row, the value and a hint."""

import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from mcti.cohort import tables
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort import cases

PARAMS = IngestParams(name="made", expression_scale="z-score")


def run(paths, out, params=PARAMS):
    return ingest(paths["clinical"], paths["expression"], paths.get("slides"), params, out)


def refused(paths, tmp_path, *words, params=PARAMS):
    """The error of an ingest that must fail, with all of `words` in its line, exit code 3, and no output."""
    with pytest.raises(DataError) as caught:
        run(paths, tmp_path / "cohort", params)
    line = str(caught.value)
    for word in words:
        assert word in line, line
    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert len(line) < 700
    assert not (tmp_path / "cohort").exists()
    return line


@pytest.fixture
def frames():
    return cases.sources()


def put(frames, tmp_path, table, column, row, value):
    """The sources with one cell changed, written."""
    frame = frames[table].astype({column: object})
    frame.loc[row, column] = value
    return cases.write_sources({**frames, table: frame}, tmp_path / "raw")


def test_valid_tables_give_the_same_bytes_in_every_run(frames, tmp_path):
    paths = cases.write_sources(frames, tmp_path / "raw")
    first, second = run(paths, tmp_path / "one"), run(paths, tmp_path / "two")
    assert (first.patients, first.events, first.genes, first.slides, first.excluded) == (40, 14, 30, 40, {})
    assert first == second
    for name in ("patients.parquet", "expression.parquet", "slides.parquet", "cohort.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    expression = tables.read_expression(tmp_path / "one")
    np.testing.assert_array_equal(expression.to_numpy(), frames["expression"].iloc[:, 1:].to_numpy(np.float32))
    assert tables.read_patients(tmp_path / "one")["time_months"].tolist() == frames["clinical"]["time_months"].tolist()


def test_parquet_and_csv_give_the_same_cohort(frames, tmp_path):
    paths = cases.write_sources(frames, tmp_path / "raw")
    run(paths, tmp_path / "csv")
    for name, frame in frames.items():
        frame.to_parquet(tmp_path / "raw" / f"{name}.parquet", index=False)
        paths[name] = str(tmp_path / "raw" / f"{name}.parquet")
    run(paths, tmp_path / "parquet")
    for read in (tables.read_patients, tables.read_slides, tables.read_expression):
        pd.testing.assert_frame_equal(read(tmp_path / "csv"), read(tmp_path / "parquet"))


def test_rows_in_another_order_give_the_same_cohort(frames, tmp_path):
    run(cases.write_sources(frames, tmp_path / "raw"), tmp_path / "one")
    shuffled = {name: frame.sample(frac=1, random_state=1) for name, frame in frames.items()}
    run(cases.write_sources(shuffled, tmp_path / "raw2"), tmp_path / "two")
    for name in ("patients.parquet", "expression.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("unit", "value", "months"), [("days", 365.25, 12.0), ("years", 2.0, 24.0), ("months", 7.5, 7.5)]
)
def test_times_become_months(frames, tmp_path, unit, value, months):
    frames["clinical"]["time_months"] = value
    run(cases.write_sources(frames, tmp_path / "raw"), tmp_path / "out", PARAMS.model_copy(update={"time_unit": unit}))
    assert tables.read_patients(tmp_path / "out")["time_months"].tolist() == pytest.approx([months] * 40, rel=1e-12)


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "words"),
    [
        ("clinical", "time_months", 15, "12y", ["'12y', not a number", "clinical.csv", "row 17", "P-0015", "30.4375"]),
        ("clinical", "time_months", 3, "-4", ["-4, which is negative", "row 5", "P-0003", "time_months"]),
        ("clinical", "time_months", 3, "2012-03-04", ["2012-03-04", "not a date"]),
        ("clinical", "time_months", 3, "04.03.2012", ["04.03.2012", "not a date"]),
        ("clinical", "time_months", 3, "06-May-2014", ["06-May-2014", "not a date"]),
        ("clinical", "time_months", 3, "May 6, 2014", ["May 6, 2014", "not a date"]),
        ("clinical", "time_months", 3, "20140506", ["'20140506', a date", "row 5", "not a date"]),
        ("clinical", "time_months", 3, "12,5", ["'12,5'", "decimal point: 12.5"]),
        ("clinical", "time_months", 3, "1.234,5", ["'1.234,5'", "decimal point: 1234.5"]),
        ("clinical", "time_months", 3, "1_000", ["'1_000', not a number"]),
        ("clinical", "time_months", 3, "inf", ["'inf', not a number"]),
        ("clinical", "age", 3, "abc", ["age is 'abc'", "row 5", "column age"]),
        ("clinical", "event", 3, "2", ["event is '2'", "row 5", "event_values"]),
        ("clinical", "event", 3, "dead", ["event is 'dead'", "event_values", "{dead: 1, alive: 0}"]),
        ("clinical", "event", 3, "yes", ["event is 'yes'", "event_values"]),
        ("clinical", "is_female", 3, "F", ["is_female is 'F'", "1 (female)"]),
        ("clinical", "site", 3, "", ["site is missing", "row 5"]),
        ("clinical", "patient_id", 3, "", ["patient_id is missing", "row 5"]),
        ("clinical", "patient_id", 3, "P-0004", ["duplicate patient_id 'P-0004'", "row 6", "row 5"]),
        ("clinical", "patient_id", 3, "p-0004", ["'p-0004'", "differ only by case"]),
        ("clinical", "patient_id", 3, "P-0003 ", ["'P-0003 ' starts or ends with a space", "delete the space"]),
        ("clinical", "patient_id", 3, "=cmd()", ["'=cmd()' is not well formed"]),
        ("clinical", "patient_id", 3, "<script>alert(1)</script>", ["<script>", "not well formed"]),
        ("clinical", "patient_id", 3, "../../x", ["'../../x' is not well formed"]),
        ("clinical", "patient_id", 3, "x" * 129, ["not well formed", "128"]),
        ("clinical", "patient_id", 3, "3.0", ["'3.0' is a number with decimals"]),
        ("clinical", "patient_id", 3, "1e5", ["'1e5' is a number with decimals"]),
        ("expression", "G3", 3, "high", ["'high' is not a number", "expression.csv", "row 5", "column G3"]),
        ("expression", "G3", 3, "1,5", ["'1,5'", "decimal point"]),
        ("expression", "patient_id", 3, "P-0004", ["duplicate patient_id 'P-0004'", "expression.csv"]),
        ("expression", "patient_id", 3, "p-0003", ["'p-0003' is written 'P-0003' in"]),
        ("slides", "patient_id", 3, "p-0003", ["'p-0003' is written 'P-0003' in", "slides.csv"]),
        ("slides", "slide_id", 3, "../../x", ["slide_id '../../x' is not well formed"]),
        ("clinical", "site", 3, "a" * 1_000_000, ["too long", "row 5, column site", "quotes"]),
        ("clinical", "site", 3, "a" * 50_000, ["too long", "row 5, column site", "quotes"]),
    ],
)  # fmt: skip
def test_an_invalid_cell_is_reported_with_row_value_and_hint(frames, tmp_path, table, column, row, value, words):
    refused(put(frames, tmp_path, table, column, row, value), tmp_path, *words)


def zipped(files):
    """The bytes of a zip archive of these files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, text in files.items():
            writer.writestr(name, text)
    return archive.getvalue()


@pytest.mark.parametrize("table", ["clinical", "expression", "slides"])
def test_a_table_compressed_with_zip_or_gzip_is_read(frames, tmp_path, table):
    paths = cases.write_sources(frames, tmp_path / "raw")
    plain, name = tmp_path / "raw" / f"{table}.csv", tmp_path / "raw" / f"{table}.csv.packed"
    for pack in (lambda text: zipped({"x/a.csv": text, "__MACOSX/._a.csv": ""}), lambda text: gzip.compress(text)):
        name.write_bytes(pack(plain.read_bytes()))
        assert run({**paths, table: str(name)}, tmp_path / "cohort").patients == 40


def test_a_byte_that_is_not_utf8_is_reported_with_its_row_in_a_long_table(frames, tmp_path):
    """Text is decoded in blocks of kilobytes; the message has the row nevertheless."""
    rows = pd.concat(
        [frames["expression"].assign(patient_id=lambda t, i=i: t["patient_id"] + f"-{i}") for i in range(40)]
    )
    paths = cases.write_sources({**frames, "expression": rows}, tmp_path / "raw")
    path = tmp_path / "raw" / "expression.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1200] = lines[1200].replace(b"P-", b"P\xfc", 1)
    path.write_bytes(b"".join(lines))
    refused(paths, tmp_path, "byte 0xfc", "row 1201")


@pytest.mark.parametrize("table", ["clinical", "expression", "slides"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(",", ";").encode(), ["separated by semicolons", "row 1"]),
        (lambda text: text.replace(",", "\t").encode(), ["separated by tabs", "row 1"]),
        (lambda text: text.encode("utf-16"), ["UTF-16", "CSV UTF-8"]),
        (lambda text: text.encode("utf-16-le"), ["UTF-16", "CSV UTF-8"]),
        (lambda text: text.encode("utf-16-be"), ["UTF-16", "CSV UTF-8"]),
        (lambda text: text.encode("utf-32"), ["UTF-32", "CSV UTF-8"]),
        (lambda text: zipped({"[Content_Types].xml": "", "xl/workbook.xml": ""}), ["an Excel file", "save the sheet"]),
        (lambda text: zipped({"a.csv": text, "b.csv": text}), ["the zip archive has 2 files", "unpack the archive"]),
        (lambda text: zipped({"a.csv": text})[:-40], ["cannot be unpacked"]),
        (lambda text: b"\xd0\xcf\x11\xe0\xa1\xb1old workbook", ["an Excel file"]),
        (lambda text: text.splitlines()[0].encode() + b"\n", ["a header and no rows"]),
        (lambda text: b"", ["the file is empty"]),
        (lambda text: b"\n\n", ["the file is empty"]),
        (lambda text: text.encode().replace(b"P-0003", b"P-\xe9", 1), ["0xe9 near 'P-é", "is not UTF-8", "row 5"]),
        (lambda text: text.replace("P-0003", "P-0003,x", 1).encode(), ["row 5", "where the header has"]),
        (lambda text: text.replace("P-0003", '"P-0003', 1).encode(), ["quotes"]),
        (lambda text: text.replace("patient_id", "patient-id", 1).encode(), ["'patient_id' is missing"]),
        (lambda text: text.replace("patient_id", " patient_id", 1).encode(), ["starts or ends with a space"]),
        (lambda text: b"PAR1broken", ["Parquet"]),
        (lambda text: b"\x1f\x8bbroken", ["cannot be unpacked"]),
    ],
    ids=lambda value: None if callable(value) else value[0][:24],
)
def test_a_file_in_another_format_is_identified(frames, tmp_path, table, change, words):
    paths = cases.write_sources(frames, tmp_path / "raw")
    path = tmp_path / "raw" / f"{table}.csv"
    path.write_bytes(change(path.read_text()))
    refused(paths, tmp_path, f"{table}.csv", *words)


@pytest.mark.parametrize("table", ["clinical", "expression", "slides"])
def test_a_byte_order_mark_is_removed_with_a_warning(frames, tmp_path, table):
    paths = cases.write_sources(frames, tmp_path / "raw")
    path = tmp_path / "raw" / f"{table}.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    result = run(paths, tmp_path / "cohort")
    assert result.patients == 40
    assert any("byte order mark" in warning and f"{table}.csv" in warning for warning in result.warnings)


def test_a_missing_column_gets_the_most_similar_name(frames, tmp_path):
    frames["clinical"] = frames["clinical"].rename(columns={"time_months": "time_month"})
    paths = cases.write_sources(frames, tmp_path / "raw")
    refused(paths, tmp_path, "column 'time_months' is missing", "clinical.csv", "did you mean time_month?")


def test_a_duplicated_gene_is_refused(frames, tmp_path):
    paths = cases.write_sources(frames, tmp_path / "raw")
    path = tmp_path / "raw" / "expression.csv"
    path.write_text(path.read_text().replace("G4", "G3", 1))
    refused(paths, tmp_path, "'G3' is duplicated", "column 5 and column 6")


def test_a_matrix_of_genes_by_patients_is_refused(frames, tmp_path):
    transposed = frames["expression"].set_index("patient_id").T.rename_axis("gene").reset_index()
    paths = cases.write_sources({**frames, "expression": transposed}, tmp_path / "raw")
    refused(paths, tmp_path, "'patient_id' is missing", "transpose a table of genes in rows")


@pytest.mark.parametrize("table", ["expression", "slides"])
def test_tables_that_share_no_patient_are_refused(frames, tmp_path, table):
    frames[table]["patient_id"] = [f"Q-{i}" for i in range(40)]
    refused(cases.write_sources(frames, tmp_path / "raw"), tmp_path, f"{table}.csv", "'P-0000'", "'Q-0'")


def test_ids_stored_as_floats_in_parquet_are_refused(frames, tmp_path):
    frames["clinical"]["patient_id"] = np.arange(40.0)
    paths = cases.write_sources(frames, tmp_path / "raw")
    frames["clinical"].to_parquet(tmp_path / "raw" / "clinical.parquet")
    refused({**paths, "clinical": tmp_path / "raw" / "clinical.parquet"}, tmp_path, "patient_id is of type double")


def test_ids_that_differ_by_leading_zeros_are_refused(frames, tmp_path):
    frames["clinical"].loc[3, "patient_id"] = "007"
    frames["clinical"].loc[4, "patient_id"] = "7"
    refused(cases.write_sources(frames, tmp_path / "raw"), tmp_path, "'7' and '007' differ only by")


def test_event_words_are_read_only_with_a_setting(frames, tmp_path):
    frames["clinical"]["event"] = frames["clinical"]["event"].map({1: "Dead", 0: "alive"})
    paths = cases.write_sources(frames, tmp_path / "raw")
    refused(paths, tmp_path, "event is 'alive'")
    result = run(paths, tmp_path / "out", PARAMS.model_copy(update={"event_values": {"dead": 1, "alive": 0}}))
    assert result.events == 14
    with pytest.raises(UsageError, match="'dead' is mapped to 3"):
        run(paths, tmp_path / "bad", PARAMS.model_copy(update={"event_values": {"dead": 3}}))


def test_competing_events_are_a_column_and_a_count_only_where_the_source_has_some(frames, tmp_path):
    """By a value of the event column or by a column: the same cohort; without any: the cohort as before."""
    plain = cases.write_sources(frames, tmp_path / "plain")
    run(plain, tmp_path / "one")
    assert "competing" not in tables.read_patients(tmp_path / "one")
    assert "competing" not in (tmp_path / "one/cohort.json").read_text()
    event = frames["clinical"]["event"]
    competing = ((event == 0) & (np.arange(40) % 2 == 0)).astype(int)
    by_value = frames | {"clinical": frames["clinical"].assign(event=event + 2 * competing)}
    values = PARAMS.model_copy(update={"event_values": {"2": 2}})
    first = run(cases.write_sources(by_value, tmp_path / "value"), tmp_path / "two", values)
    assert (first.events, first.competing_events) == (14, int(competing.sum()))
    by_column = frames | {"clinical": frames["clinical"].assign(competing=competing)}
    paths = cases.write_sources(by_column, tmp_path / "column")
    assert run(paths, tmp_path / "three") == first
    assert (tmp_path / "two/patients.parquet").read_bytes() == (tmp_path / "three/patients.parquet").read_bytes()
    patients, info = tables.read_patients(tmp_path / "two"), tables.read_info(tmp_path / "two")
    assert patients["competing"].tolist() == competing.tolist()
    assert patients["event"].tolist() == event.tolist()
    assert (tables.covariates(patients), info.counts["competing_events"]) == ([], int(competing.sum()))
    none = run(plain, tmp_path / "four", values)
    assert none.competing_events is None
    assert "no patient has a competing event" in none.warnings[0]
    assert (tmp_path / "four/patients.parquet").read_bytes() == (tmp_path / "one/patients.parquet").read_bytes()


def test_excluded_patients_are_listed_with_the_reason(frames, tmp_path):
    clinical = frames["clinical"].astype({"time_months": object, "subtype": object, "event": object})
    clinical.loc[0, "time_months"] = ""
    clinical.loc[1, "time_months"] = 0
    clinical.loc[2, "event"] = "NA"
    clinical.loc[3, "subtype"] = "[Not Available]"
    frames["clinical"] = clinical
    frames["expression"] = frames["expression"].drop(index=4)
    frames["slides"] = frames["slides"].drop(index=5)
    frames["clinical"] = frames["clinical"].drop(index=6)
    paths = cases.write_sources(frames, tmp_path / "raw")
    run(paths, tmp_path / "out")
    attrition = {(patient.patient_id, patient.reason) for patient in tables.read_info(tmp_path / "out").attrition}
    assert attrition == {
        ("P-0000", "no follow-up"),
        ("P-0001", "no follow-up"),
        ("P-0002", "no follow-up"),
        ("P-0003", "no subtype"),
        ("P-0004", "no genes"),
        ("P-0005", "no slides"),
        ("P-0006", "in the expression table, not in the clinical table"),
        ("P-0006", "in the slide manifest, not in the clinical table"),
    }
    kept = run(paths, tmp_path / "kept", PARAMS.model_copy(update={"missing_modality": "keep"}))
    assert kept.patients == 40 - 4 - 1
    assert "P-0004" not in tables.read_expression(tmp_path / "kept").index


def test_a_cohort_without_remaining_patients_is_refused(frames, tmp_path):
    frames["clinical"]["time_months"] = 0
    refused(cases.write_sources(frames, tmp_path / "raw"), tmp_path, "no patient remains", "40 excluded: no follow-up")


def test_slide_paths_are_relative_to_the_manifest_and_never_become_absolute(frames, tmp_path, monkeypatch):
    frames["slides"]["path"] = ["/store/a.svs", "s3://bucket/b.svs", *["s/c.svs"] * 38]
    cases.write_sources(frames, tmp_path / "raw")
    monkeypatch.chdir(tmp_path)
    for name, base in (("relative", "raw"), ("absolute", str(tmp_path / "raw"))):
        paths = {table: f"{base}/{table}.csv" for table in frames}
        run(paths, tmp_path / name)
        paths = tables.read_slides(tmp_path / name)["path"].tolist()
        assert paths == ["/store/a.svs", "s3://bucket/b.svs", *["raw/s/c.svs"] * 38]


def test_the_suffix_of_a_slide_file_is_dropped(frames, tmp_path):
    frames["slides"]["slide_id"] = [f"{p}-01Z.DX1.svs" for p in frames["slides"]["patient_id"]]
    run(cases.write_sources(frames, tmp_path / "raw"), tmp_path / "out")
    assert tables.read_slides(tmp_path / "out")["slide_id"].iloc[0] == "P-0000-01Z.DX1"


def test_a_failed_ingest_leaves_the_previous_cohort_unchanged(frames, tmp_path):
    run(cases.write_sources(frames, tmp_path / "raw"), tmp_path / "cohort")
    before = (tmp_path / "cohort" / "patients.parquet").read_bytes()
    paths = put(frames, tmp_path, "clinical", "event", 3, "maybe")
    with pytest.raises(DataError):
        run(paths, tmp_path / "cohort")
    assert (tmp_path / "cohort" / "patients.parquet").read_bytes() == before


def test_a_mix_of_numeric_and_other_ids_gives_a_warning(frames, tmp_path):
    for frame in frames.values():
        frame["patient_id"] = frame["patient_id"].replace({"P-0003": "3"})
    result = run(cases.write_sources(frames, tmp_path / "raw"), tmp_path / "cohort")
    assert any("1 of 40 patient ids are whole numbers ('3')" in warning for warning in result.warnings)
