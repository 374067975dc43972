import json

import torch

from mcti.training import profiling


def test_five_steps_are_traced_and_the_first_one_is_not(tmp_path):
    out = tmp_path / "trace.json"
    with profiling.traced(out) as after_step:
        for step in range(8):
            with torch.profiler.record_function(f"step {step}"):
                torch.ones(2) + 1
            after_step()
    names = {event.get("name") for event in json.loads(out.read_text())["traceEvents"]}
    assert {name for name in names if str(name).startswith("step ")} == {f"step {k}" for k in range(1, 6)}


def test_a_body_of_one_step_has_a_trace_and_without_a_file_there_is_none(tmp_path):
    with profiling.traced(tmp_path / "short.json") as after_step:
        after_step()
    assert (tmp_path / "short.json").is_file()
    with profiling.traced(None) as after_step:
        after_step()
    assert list(tmp_path.iterdir()) == [tmp_path / "short.json"]
