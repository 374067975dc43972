"""The two survival heads against their definitions and numerical integration (scipy 1.17)."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mcti.model import hazards
from mcti.model.trained import Fitted, Scale, TrainedModel
from mcti.params.architecture import HeadForm
from mcti.training.losses import piecewise_nll
from tests.model.cases import FEATURES, GENES, batch, config, network

EDGES = (0.0, 6.0, 10.0, 40.0)
LN2 = math.log(2)


def hazard_logits_of(added: list[float]) -> torch.Tensor:
    """Logits whose softplus are these."""
    return torch.tensor([added], dtype=torch.float64).expm1().log()


def test_rates_by_hand():
    """The bins add ln 2, ln 2, 2 ln 2 to the cumulative hazard: S is 1/2, 1/4, 1/16, 1/sqrt(2) at half a bin."""
    hazard, survival = hazards.hazard_and_survival(hazard_logits_of([LN2, LN2, 2 * LN2]), "continuous")
    np.testing.assert_allclose(survival, [[1 / 2, 1 / 4, 1 / 16]], rtol=1e-12)
    np.testing.assert_allclose(hazard, [[1 / 2, 1 / 2, 3 / 4]], rtol=1e-12)
    computed = hazards.survival_at(survival, EDGES, [0, 3, 6, 8, 25, 40, 55], "continuous")
    np.testing.assert_allclose(computed, [[1, 2**-0.5, 0.5, 2**-1.5, 1 / 8, 1 / 16, 1 / 32]], rtol=1e-12)


def test_the_discrete_curve_is_straight_and_stays_at_its_end():
    computed = hazards.survival_at(torch.tensor([[0.5, 0.25, 0.0]]), EDGES, [3, 8, 25, 400], "discrete")
    np.testing.assert_allclose(computed, [[0.75, 0.375, 0.125, 0]], rtol=1e-12)


@pytest.mark.parametrize("head", get_args(HeadForm))
def test_survival_falls_at_every_month_and_meets_the_bins(head):
    logits = 3 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    _, survival = hazards.hazard_and_survival(logits, head)
    months = [float(month) for month in np.linspace(0, 60, 301)]
    curve = hazards.survival_at(survival, EDGES, months, head)
    assert (curve.diff(dim=1) <= 0).all()
    assert (curve[:, 0] == 1).all()
    torch.testing.assert_close(hazards.survival_at(survival, EDGES, EDGES[1:], head), survival.double())


def test_a_curve_that_reached_nought_stays_a_number():
    _, survival = hazards.hazard_and_survival(torch.full((1, 3), 1e4), "continuous")
    assert hazards.survival_at(survival, EDGES, [0, 1, 50], "continuous").isfinite().all()


def test_the_likelihood_is_a_density_whose_integral_is_the_survival():
    """Oracle: numerical integration of exp(-loss of an event at t) between months is S(from) - S(to)."""
    logits = torch.tensor([[-1.0, 0.5, 2.0]], dtype=torch.float64)
    _, survival = hazards.hazard_and_survival(logits, "continuous")

    def density(month: float) -> float:
        time = torch.tensor([month], dtype=torch.float64)
        return math.exp(-piecewise_nll(logits, time, torch.tensor([True]), EDGES, 0.3).item())

    for start, end in ((0, 5), (2, 9), (7, 60)):
        mass, _ = quad(density, start, end, points=[edge for edge in EDGES if start < edge < end])
        one, other = hazards.survival_at(survival, EDGES, [start, end], "continuous")[0].tolist()
        assert mass == pytest.approx(one - other, rel=1e-7)


def test_a_censored_patient_contributes_the_survival_to_their_time():
    """-log S(t), S from the curve, times 1 - alpha."""
    logits = torch.tensor([[-1.0, 0.5, 2.0]], dtype=torch.float64).expand(3, -1)
    times = torch.tensor([4.0, 6.0, 33.0], dtype=torch.float64)
    _, survival = hazards.hazard_and_survival(logits[:1], "continuous")
    expected = -0.75 * hazards.survival_at(survival, EDGES, times.tolist(), "continuous")[0].log()
    computed = piecewise_nll(logits, times, torch.zeros(3, dtype=torch.bool), EDGES, 0.25)
    torch.testing.assert_close(computed, expected)


def test_likelihood_has_the_gradient_of_finite_differences_and_none_that_is_no_number():
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 3, generator=random, dtype=torch.float64, requires_grad=True)
    times = 45 * torch.rand(6, generator=random, dtype=torch.float64)
    events = torch.tensor([True, False] * 3)
    assert torch.autograd.gradcheck(lambda logits: piecewise_nll(logits, times, events, EDGES, 0.3), (logits,))
    far = torch.tensor([[-800.0, 800.0, -800.0], [800.0, -800.0, 0.0]], requires_grad=True)
    terms = piecewise_nll(far, torch.tensor([3.0, 8.0]), torch.tensor([True, True]), EDGES, 0.0)
    terms.sum().backward()
    assert terms.isfinite().all()
    assert far.grad.isfinite().all()


def test_the_best_constant_rate_is_events_over_months():
    """One bin, no covariate: the maximum likelihood rate is d / sum t (the exponential model)."""
    times, events = torch.tensor([3.0, 5.0, 8.0, 20.0], dtype=torch.float64), torch.tensor([True, False, True, True])
    logit = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=60, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = piecewise_nll(logit.expand(4, -1), times, events, (0.0, 20.0), 0.0).sum()
        total.backward()
        return total

    optimizer.step(loss)
    rate = torch.nn.functional.softplus(logit).item() / 20
    assert rate == pytest.approx(3 / 36, rel=1e-6)


def test_a_continuous_model_predicts_any_month_with_the_risk_of_its_bins():
    of = config(head="continuous", bins=3)
    scale = Scale(torch.zeros(len(GENES)), torch.ones(len(GENES)))
    fitted = Fitted(scale, Scale(torch.zeros(FEATURES), torch.ones(FEATURES)), EDGES)
    model = TrainedModel(network(of), of, fitted)
    patches, _, genes = batch([5])
    row = model.predict(patches[0], genes[0], (6, 8.5, 10, 40, 80))
    assert row["risk"] == pytest.approx(-(row["S_6"] + row["S_10"] + row["S_40"]), rel=1e-6)
    assert 1 > row["S_6"] > row["S_8.5"] > row["S_10"] > row["S_40"] > row["S_80"] > 0


@pytest.mark.parametrize("head", get_args(HeadForm))
def test_the_logits_of_hazards_give_them_back(head):
    hazard = torch.tensor([[0.001, 0.2, 0.5, 0.97]], dtype=torch.float64)
    torch.testing.assert_close(hazards.hazard_and_survival(hazards.hazard_logits_of(hazard, head), head)[0], hazard)
