"""The small version of the benchmark: three sizes at fixed epochs. Times depend on the machine and are not asserted."""

import re

import pytest

from benchmarks import train_scale


@pytest.mark.slow
def test_three_sizes_print_the_processor_time_per_patient_and_its_growth(capsys, monkeypatch):
    monkeypatch.setattr(train_scale, "GENES", 20)
    assert train_scale.main(["--patients", "40", "80", "120", "--patches", "8", "--set", "train.workers=1"]) == 0
    *lines, growth = capsys.readouterr().out.splitlines()
    per_patient = [float(re.search(r"([\d.]+) ms of a processor per patient", line).group(1)) for line in lines]
    assert len(per_patient) == 3
    assert min(per_patient) > 0
    ratios = dict(re.findall(r"(\d+): ([\d.]+)", growth))
    assert list(ratios) == ["40", "80", "120"]
    assert float(ratios["120"]) == pytest.approx(per_patient[2] / per_patient[0], abs=0.02)
