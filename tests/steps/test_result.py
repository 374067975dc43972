"""The result of a step."""

import json

from mcti.steps.result import StepResult


class Result(StepResult):
    """An example."""

    patients: int
    c_index: float
    passed: bool
    names: tuple[str, ...]


def test_a_result_is_saved_and_its_numbers_are_the_headline(tmp_path):
    result = Result(patients=3, c_index=0.5, passed=True, names=("a",))
    assert result.save(tmp_path) is result
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved == {"patients": 3, "c_index": 0.5, "passed": True, "names": ["a"]}
    assert result.headline() == {"patients": 3.0, "c_index": 0.5}
