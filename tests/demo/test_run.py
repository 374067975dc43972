"""The output of the demo."""

from mcti.demo.run import DemoResult


def test_the_output_uses_display_names_and_has_ten_lines():
    result = DemoResult(
        changed=False, cohort="x: 3 patients", notice="n", model="m", report="r", mlflow="http://127.0.0.1",
        c_index={"mcti": "0.700 (0.600 to 0.800)", "cox_clinical_genes": "0.650", "network_alone": "0.600"},
    )  # fmt: skip
    lines = result.lines()
    assert len(lines) == 10
    assert lines[3] == "C-index    MCTI 0.700 (0.600 to 0.800), 95 % interval"
    assert lines[4] == "baselines  Cox: clinical + genes 0.650"
