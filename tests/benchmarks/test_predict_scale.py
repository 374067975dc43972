"""The small version of the benchmark: its own checks compare rows and list of refused patients with the input."""

import re

import pytest

from benchmarks import predict_scale


@pytest.mark.slow
def test_every_patient_is_predicted_or_listed_and_memory_and_time_are_printed(capsys, monkeypatch):
    monkeypatch.setattr(predict_scale, "_UNMEASURED_EVERY", 1000)
    assert predict_scale.main(["--patients", "600", "1200", "--genes", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["600", "1200"]
    peaks = [float(re.search(r"([\d.]+) GiB", line).group(1)) for line in lines]
    assert min(peaks) > 0.05, "two workers with torch need more"
