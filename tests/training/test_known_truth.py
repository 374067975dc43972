"""The simulation with known truth, small and on made genes: the slide's signal is found, and the planted patches."""

import pytest

from benchmarks import known_truth


@pytest.mark.slow
def test_mcti_finds_what_only_the_slide_carries_and_names_the_patches_that_carry_it(monkeypatch, tmp_path):
    """Genes alone cannot: they are independent of the fate. 80 patients are tested: a C without any knowledge has a
    standard error of about .045, and .63 is three of them above chance."""
    monkeypatch.setattr(known_truth, "DATA", tmp_path / "nothing")
    truth = known_truth.plant(240)
    found, critical = known_truth.measure(truth, "slide", "mcti", epochs=70, seed=0)
    genes, _ = known_truth.measure(truth, "slide", "snn", epochs=10, seed=0)
    assert found > 0.65
    assert critical >= 0.9
    assert genes < 0.63
