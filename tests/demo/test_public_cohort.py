"""The public tables of the demo cohort."""

from mcti.demo import public_cohort


def test_the_tables_have_the_published_numbers():
    """Desmedt et al. 2007: 198 patients, 76 probes; 51 distant metastases in the table of scikit-survival."""
    tables = public_cohort.demo_tables()
    assert tables.clinical.shape[0] == tables.slides.shape[0] == 198
    assert tables.expression.shape == (198, 77)  # patient_id and the probes
    assert int(tables.clinical["event"].sum()) == 51


def test_two_patients_have_no_grade():
    grades = [patient.grade for patient in public_cohort.demo_patients()]
    assert grades.count(None) == 2
    assert set(grades) == {None, 1, 2, 3}
