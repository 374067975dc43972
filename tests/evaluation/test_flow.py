from mcti.cohort.tables import ExcludedPatient
from mcti.evaluation import flow

EXCLUDED = [
    ExcludedPatient(patient_id="P2", step="split", reason="no features"),
    ExcludedPatient(patient_id="P9", step="ingest", reason="no follow-up"),
    ExcludedPatient(patient_id="P1", step="split", reason="no features"),
]


def test_exclusions_are_counted_by_step_and_reason_in_the_order_of_the_steps():
    assert list(flow.counts(EXCLUDED).items()) == [("ingest", {"no follow-up": 1}), ("split", {"no features": 2})]
    assert flow.counts([]) == {}


def test_the_table_has_one_row_per_patient_sorted_by_step_and_patient():
    table = flow.table(EXCLUDED)
    assert list(table.columns) == ["patient_id", "step", "reason"]
    assert table["patient_id"].tolist() == ["P9", "P1", "P2"]
    assert len(flow.table([])) == 0
