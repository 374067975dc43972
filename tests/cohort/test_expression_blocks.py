"""Progress of repeated passes over the expression."""

from mcti.cohort.expression_blocks import ExpressionBlocks
from tests.cohort import cases


def test_each_pass_yields_all_patients_and_progress_reaches_the_total(tmp_path):
    cohort = cases.write_cohort(cases.sources(patients=5), tmp_path / "cohort")
    calls = []
    blocks = ExpressionBlocks(cohort, 3, lambda *arguments: calls.append(arguments))
    for _ in range(2):
        assert [patient for ids, _ in blocks() for patient in ids] == [f"P-{i:04d}" for i in range(5)]
    blocks.close()
    assert [call[:2] for call in calls] == [(1, 3), (2, 3), (3, 3)]
