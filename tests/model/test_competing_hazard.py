"""The stored hazard of the competing event: lifelines' Nelson-Aalen estimate, and constant hazards with known F1."""

import dataclasses

import numpy as np
import pytest
import torch
from lifelines import NelsonAalenFitter

from mcti.model.competing_hazard import GRID_STEPS, CompetingHazard
from mcti.model.network import MCTI
from mcti.model.presets import preset
from mcti.model.trained import Fitted, Scale, TrainedModel

EVENT, OTHER = 1 / 50, 1 / 70  # per month
HORIZONS = (12.0, 36.0, 60.0)
EDGES = (0.0, 20.0, 50.0, 200.0)


def closed_form(months):
    """The cumulative incidence of two constant hazards."""
    total = EVENT + OTHER
    return EVENT / total * (1 - np.exp(-total * np.asarray(months)))


def patients(count, entry=0.0, seed=1):
    """competing, time_months, entry_months (count,): both hazards and a censoring at random, from the entry on."""
    random = np.random.default_rng(seed)
    event, other = random.exponential(1 / EVENT, count), random.exponential(1 / OTHER, count)
    entries = entry * random.random(count)
    time = np.minimum(np.minimum(event, other), 40 + 100 * random.random(count))
    kept = time > entries
    return (other == time)[kept], time[kept], entries[kept]


def model(competing):
    """A network with the continuous head: S(t) = exp(-t / 50) is exact between its bin edges."""
    config = preset("tiny", features=2, genes=("a", "b"), classes=("x",), bins=3, head="continuous")
    scale = Scale(torch.zeros(2), torch.ones(2))
    return TrainedModel(MCTI(config), config, Fitted(scale, scale, EDGES, competing=competing))


def row(competing, months=HORIZONS):
    survival = torch.exp(-EVENT * torch.tensor(EDGES[1:], dtype=torch.float64))[None]
    return model(competing).row(survival, torch.tensor([-1.0]), months)


@pytest.mark.parametrize("entry", [0.0, 30.0])
def test_the_cumulative_hazard_is_that_of_lifelines_with_its_times_rounded_to_a_grid(entry):
    """lifelines 0.30, also with late entry; a step at k contains the times nearest to it."""
    competing, time, entries = patients(300, entry)
    hazard = CompetingHazard.fit(competing, time, entries)
    fitted = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(time, competing, entry=entries if entry else None)
    width = time.max() / GRID_STEPS
    months = np.array(hazard.months)
    np.testing.assert_allclose(months / width, np.rint(months / width))
    expected = [fitted.predict(t + width / 2) for t in months]
    np.testing.assert_allclose(hazard.cumulative, expected, rtol=1e-9)
    assert hazard.cumulative[-1] == pytest.approx(fitted.cumulative_hazard_.iloc[-1, 0], abs=1e-12)


def test_the_incidence_of_constant_hazards_has_its_closed_form():
    """The steps are the exact hazard at the middle between the grid points: F1 = l1 / (l1 + l2) (1 - exp(...))."""
    months = 0.5 * np.arange(1, 200)
    exact = CompetingHazard(tuple(months), tuple(OTHER * (months + 0.25)))
    predicted = row(exact)
    np.testing.assert_allclose([predicted[f"F_{t:g}"] for t in HORIZONS], closed_form(HORIZONS), rtol=2e-4)


def test_the_incidence_of_simulated_patients_is_the_known_one():
    """20,000 patients; 1 - S(t), which takes no account of the competing event, is 0.14 above it at 60 months."""
    hazard = CompetingHazard.fit(*patients(20_000, entry=20.0))
    predicted = row(hazard)
    np.testing.assert_allclose([predicted[f"F_{t:g}"] for t in HORIZONS], closed_form(HORIZONS), atol=0.005)
    assert 1 - predicted["S_60"] > predicted["F_60"] + 0.14


def test_a_horizon_has_the_same_bits_alone_and_among_others_in_any_order():
    hazard = CompetingHazard.fit(*patients(300))
    together = row(hazard, (60.0, 12.0, 0.0, 36.0, 500.0))
    for months in (12.0, 36.0, 60.0, 500.0):
        assert row(hazard, (months,))[f"F_{months:g}"] == together[f"F_{months:g}"]
    assert together["F_0"] == 0
    assert together["F_12"] < together["F_36"] < together["F_60"] <= together["F_500"]
    assert row(hazard, ()) == {"risk": -1.0}


def test_without_a_competing_event_in_the_training_part_the_incidence_is_the_complement_of_survival():
    competing, time, entries = patients(50)
    hazard = CompetingHazard.fit(np.zeros_like(competing), time, entries)
    assert hazard == CompetingHazard((), ())
    predicted = row(hazard)
    for months in HORIZONS:
        assert predicted[f"F_{months:g}"] == pytest.approx(1 - predicted[f"S_{months:g}"], abs=1e-12)


def test_a_model_without_competing_events_has_no_field_and_the_same_numbers():
    with_hazard, without = row(CompetingHazard.fit(*patients(300))), row(None)
    assert list(without) == ["risk", "S_12", "S_36", "S_60"]
    assert {name: with_hazard[name] for name in without} == without
    assert set(model(None).spec()["fitted"]) == {"genes", "features", "covariates", "edges_months"}


def test_the_hazard_survives_the_conversion_and_a_falling_one_is_refused():
    hazard = CompetingHazard.fit(*patients(300))
    assert Fitted.from_spec(model(hazard).spec()["fitted"]).competing == hazard
    for months, cumulative in (((1.0, 2.0), (0.2, 0.1)), ((2.0, 1.0), (0.1, 0.2)), ((1.0,), (-0.1,))):
        with pytest.raises(ValueError, match="do not rise"):
            CompetingHazard.from_spec(dataclasses.asdict(CompetingHazard(months, cumulative)))
    with pytest.raises(ValueError, match="inhomogeneous shape"):
        CompetingHazard.from_spec({"months": [1.0], "cumulative": []})
