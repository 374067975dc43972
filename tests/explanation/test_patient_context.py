"""The context of a prediction in the patient reports."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from mcti.explanation import patient_html, patient_pdf
from mcti.explanation.patient_context import NO_CONTEXT, PredictionContext
from mcti.params import TrainParams
from mcti.training.fold_files import cohort_record
from tests.training.factories import bags

CONTEXT = PredictionContext("models:/lung@champion", "lung", "OS", "2026-11-29", 73.0, {12.0: 0.8, 36.0: 0.5}, 40.0)
ROW = {
    "patient_id": "N-1", "risk": -1.5, "risk_group": "high", "ood_score": 0.4, "out_of_distribution": False,
    "missing": "", "model": "ensemble", "digest": "abc",
    **{f"S_{t}{end}": value for t, value in ((12, 0.7), (36, 0.4), (60, 0.3)) for end in ("", "_low", "_high")},
}  # fmt: skip


def test_the_page_names_cohort_endpoint_model_date_and_percentile_and_marks_what_is_extrapolated():
    page = patient_html.render(ROW, "", None, CONTEXT)
    assert "Developed on cohort lung, endpoint OS; model models:/lung@champion; predicted on 2026-11-29." in page
    assert "higher than that of 73 % of the patients of the development cohort" in page
    assert page.count("extrapolated") == 1, "at 60 months alone: the training patients were followed for 40"
    assert "stroke-dasharray" in page, "the curve of the cohort"
    assert "<td>0.800</td>" in page


def test_without_context_the_page_does_not_mention_the_cohort():
    page = patient_html.render(ROW, "", None)
    for text in ("Developed on", "development cohort", "stroke-dasharray", "extrapolated"):
        assert text not in page


def test_with_competing_events_the_reports_state_the_incidence_and_that_survival_is_cause_specific():
    row = ROW | {"F_12": 0.25, "F_12_low": 0.2, "F_12_high": 0.3, "F_36": 0.5, "F_36_low": None, "F_36_high": None}
    page = patient_html.render(row, "", None, CONTEXT)
    assert "0.250 by 12 months (members 0.200 to 0.300), 0.500 by 36 months. S(t) is cause-specific" in page
    assert "cause-specific" not in patient_html.render(ROW, "", None, CONTEXT)
    assert page.count("<tr>") == patient_html.render(ROW, "", None, CONTEXT).count("<tr>")
    assert patient_pdf.pdf(row, "", None, CONTEXT) != patient_pdf.pdf(ROW, "", None, CONTEXT)


def test_the_pdf_depends_on_its_content_only():
    assert patient_pdf.pdf(ROW, "", None, CONTEXT).startswith(b"%PDF")
    assert patient_pdf.pdf(ROW, "", None, CONTEXT) == patient_pdf.pdf(ROW, "", None, CONTEXT)
    assert patient_pdf.pdf(ROW, "", None, CONTEXT) != patient_pdf.pdf(ROW, "", None, NO_CONTEXT)


def test_the_curve_of_the_cohort_agrees_with_lifelines_and_ends_with_the_follow_up():
    """Oracle: lifelines 0.30."""
    chosen = bags(40)
    time, event = np.array([bag.time_months for bag in chosen]), np.array([bag.event for bag in chosen])
    params = TrainParams(horizons_months=(6.0, 12.0, 36.0, 1000.0))
    record = cohort_record({"name": "made", "endpoint": "OS"}, chosen, params)
    assert (record["patients"], record["events"]) == (40, event.sum())
    fitted = KaplanMeierFitter().fit(time, event)
    for months in (6.0, 12.0, 36.0):
        assert record["survival"][f"{months:g}"] == pytest.approx(fitted.predict(months), abs=1e-9)
    assert record["survival"]["1000"] is None
    assert cohort_record({}, chosen, params) == {}
