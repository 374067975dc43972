"""The simulation with known truth, small and on synthetic genes: both signals and the planted patches."""

import pytest

from benchmarks import known_truth
from mcti.params import TrainParams

EPOCHS = {"slide": 15, "pairing": 40}  # the first is found sooner


@pytest.mark.slow
@pytest.mark.parametrize("signal", known_truth.SIGNALS)
def test_mcti_finds_what_only_the_slide_or_only_the_pairing_carries_and_which_patches(monkeypatch, tmp_path, signal):
    """120 patients are tested: a C without any knowledge has a standard error of about .035. Genes alone cannot find
    either signal: they are independent of the fate; and slides alone not the pairing."""
    monkeypatch.setattr(known_truth, "DATA", tmp_path / "nothing")
    truth = known_truth.plant(360)
    c_index, critical = known_truth.measure(truth, signal, "mcti", epochs=EPOCHS[signal], seed=0)
    alone, _ = known_truth.measure(truth, signal, "snn" if signal == "slide" else "abmil", epochs=10, seed=0)
    assert c_index > 0.65
    assert critical >= 0.9
    assert alone < 0.63


def test_the_default_has_the_settings_of_train_and_a_check_needs_its_models():
    assert known_truth.settings("default", 40, 3) == TrainParams(seed=3, device="cpu")
    good = {("slide", "mcti"): (0.8, 0.95), ("pairing", "mcti"): (0.7, 0.95), ("pairing", "abmil"): (0.55, 0.9)}
    assert known_truth.checks(good) == [True, True, True]
    assert known_truth.checks(good | {("pairing", "abmil"): (0.66, 0.9)}) == [False, False, True]
    assert known_truth.checks({("slide", "default"): (0.5, 0.5)}) == []
