"""Names of columns that registries use."""

import pytest

from mcti.project import column_names


@pytest.mark.parametrize(
    ("name", "plain"),
    [("OS.time (days)", "os_time_days"), ("PatientID", "patient_id"), ("Größe cm", "größe_cm"), ("TSS", "tss")],
)
def test_names_are_compared_in_one_form(name, plain):
    assert column_names.plain(name) == plain


def test_the_columns_of_common_tables_are_found():
    assert column_names.guess(["_PATIENT", "OS", "OS.time", "gender", "histological_type"]) == {
        "patient_id": "_PATIENT", "event": "OS", "time_months": "OS.time", "is_female": "gender",
        "subtype": "histological_type",
    }  # fmt: skip
    gdc = column_names.guess(["cases.submitter_id", "demographic.vital_status", "diagnoses.days_to_last_follow_up"])
    assert gdc == {
        "patient_id": "cases.submitter_id", "event": "demographic.vital_status",
        "time_months": "diagnoses.days_to_last_follow_up",
    }  # fmt: skip


@pytest.mark.parametrize(
    "columns", [["case_id", "case_submitter_id"], ["cases.case_id", "cases.submitter_id"], ["case_id", "submitter_id"]]
)
def test_the_patient_of_the_gdc_is_the_barcode_and_not_the_uuid(columns):
    assert column_names.guess(columns)["patient_id"] == columns[1]


def test_one_column_has_one_meaning_and_the_end_point_decides_between_two():
    columns = ["patient", "OS_MONTHS", "OS_STATUS", "PFI_MONTHS", "PFI_STATUS"]
    assert column_names.guess(columns)["time_months"] == "OS_MONTHS"
    columns_of_pfi = column_names.guess(columns, "PFI")
    assert (columns_of_pfi["time_months"], columns_of_pfi["event"]) == ("PFI_MONTHS", "PFI_STATUS")
    assert len(set(column_names.guess(["id", "os"]).values())) == 2


def test_the_names_of_the_web_site_of_cbioportal():
    names = ["Study ID", "Patient ID", "Sample ID", "Diagnosis Age", "Overall Survival (Months)", "Sex", "Cancer Type",
             "Overall Survival Status", "Disease Free (Months)", "Disease Free Status"]  # fmt: skip
    columns = column_names.guess(names)
    assert columns["patient_id"] == "Patient ID"
    assert (columns["time_months"], columns["event"]) == ("Overall Survival (Months)", "Overall Survival Status")
    free = column_names.guess(names, "DFI")
    assert (free["time_months"], free["event"]) == ("Disease Free (Months)", "Disease Free Status")
    assert column_names.endpoint_of("Disease Free (Months)", "Disease Free Status") == "DFI"
    assert column_names.endpoint_of("Overall Survival (Months)") == "OS"
    assert column_names.is_of_another("Disease Free Status", "OS")
    assert not column_names.is_of_another("Overall Survival Status", "OS")


def test_end_point_unit_and_outcomes_by_name():
    assert column_names.endpoint_of("DFS_MONTHS", "status") == "DFI"
    assert column_names.endpoint_of("time", "event") == "OS"
    assert column_names.unit_of("OS Monate") == "months"
    assert column_names.unit_of("time") is None
    names = ("grade", "PFI.time", "days_to_birth", "relapse", "size")
    assert [name for name in names if column_names.is_outcome(name)] == ["PFI.time", "days_to_birth", "relapse"]
