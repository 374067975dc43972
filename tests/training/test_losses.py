import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mcti.training import losses

LN2 = math.log(2)


def made(patients=30, bins=4, seed=0, ties=False):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(patients, bins, generator=random, dtype=torch.float64)
    times = torch.rand(patients, generator=random, dtype=torch.float64) * 50
    if ties:
        times = times.div(10).ceil()
    events = torch.rand(patients, generator=random) < 0.6
    return logits, torch.randint(bins, (patients,), generator=random), times, events


def test_discrete_nll_by_hand():
    """All hazards one half: S_k = 2^-(k+1). An event in bin 1: -log(1/2 * 1/2); censored in bin 1: -log(1/4)."""
    logits = torch.zeros(2, 3, dtype=torch.float64)
    terms = losses.discrete_nll(logits, torch.tensor([1, 1]), torch.tensor([True, False]), alpha=0.25)
    np.testing.assert_allclose(terms, [2 * LN2, 0.75 * 2 * LN2], atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_discrete_nll_agrees_with_the_product_of_hazards(alpha):
    """Oracle: the definition, patient by patient on hazards and not on logits."""
    logits, bins, _, events = made()
    hazards = torch.sigmoid(logits).numpy()
    expected = []
    for row, bin_, event in zip(hazards, bins.tolist(), events.tolist(), strict=True):
        before = np.prod(1 - row[:bin_])
        expected.append(-np.log(before * row[bin_]) if event else -(1 - alpha) * np.log(before * (1 - row[bin_])))
    np.testing.assert_allclose(losses.discrete_nll(logits, bins, events, alpha), expected, rtol=1e-10)


def test_discrete_nll_and_its_gradient_stay_finite_where_hazards_round_to_zero_and_one():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    terms = losses.discrete_nll(logits, torch.tensor([1, 0]), torch.tensor([True, False]), 0.0)
    terms.sum().backward()
    assert terms.isfinite().all()
    assert logits.grad.isfinite().all()


def test_subtype_loss_agrees_with_torch_and_weights_average_one():
    subtypes = torch.tensor([0, 0, 0, 1, 2, 2])
    weights = losses.class_weights(subtypes, 3)
    assert weights[subtypes].mean().item() == pytest.approx(1, abs=1e-6)  # float32 sum of six
    np.testing.assert_allclose(weights, [6 / 9, 2, 1], rtol=1e-6)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    theirs = functional.cross_entropy(logits, subtypes, weight=weights)  # torch divides by the sum of the weights: 6
    assert losses.subtype_terms(logits, subtypes, weights).mean().item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Ties in `time` detected")
@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("tied", [False, True])
def test_cox_agrees_with_torchsurv(ties, tied):
    """Oracle: torchsurv.loss.cox, sum over patients; it works in float32, hence 1e-6 of the sum."""
    cox = pytest.importorskip("torchsurv.loss.cox")
    logits, _, times, events = made(40, ties=tied)
    risk = logits[:, 0]
    ours = losses.cox_terms(risk, times, events, ties).sum()
    theirs = cox.neg_partial_log_likelihood(risk, events, times, ties_method=ties, reduction="sum")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_cox_by_hand():
    """Two events at one time among three at risk, all of risk 0: Breslow 2 log 3, Efron log 3 + log 2."""
    risk = torch.zeros(3, dtype=torch.float64)
    times, events = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([True, True, False])
    assert losses.cox_terms(risk, times, events, "breslow").sum().item() == pytest.approx(2 * math.log(3), abs=1e-12)
    assert losses.cox_terms(risk, times, events, "efron").sum().item() == pytest.approx(math.log(6), abs=1e-12)


def test_cox_has_a_finite_gradient_and_none_from_a_lone_censored_patient():
    risk = torch.tensor([300.0, -300.0, 0.0], requires_grad=True)
    losses.cox_terms(risk, torch.tensor([1.0, 1.0, 1.0]), torch.tensor([True, True, True])).sum().backward()
    assert risk.grad.isfinite().all()
    assert losses.cox_terms(torch.ones(1), torch.ones(1), torch.zeros(1, dtype=torch.bool)).item() == 0


def test_ranking_agrees_with_a_loop_over_pairs_and_is_one_where_risks_are_equal():
    logits, _, times, events = made(12, ties=True)
    risk, terms = logits[:, 0], []
    for i in range(12):
        pairs = [
            math.log2(1 + math.exp(risk[j] - risk[i]))
            for j in range(12)
            if events[i] and (times[j] > times[i] or (times[j] == times[i] and not events[j]))
        ]
        terms.append(sum(pairs) / len(pairs) if pairs else 0.0)
    np.testing.assert_allclose(losses.ranking_terms(risk, times, events), terms, atol=1e-12)
    flat = losses.ranking_terms(torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor([True, False]))
    np.testing.assert_allclose(flat, [1, 0], atol=1e-6)


def test_ranking_falls_when_the_earlier_event_has_the_higher_risk():
    times, events = torch.tensor([1.0, 5.0]), torch.tensor([True, True])
    right = losses.ranking_terms(torch.tensor([1.0, -1.0]), times, events).sum()
    wrong = losses.ranking_terms(torch.tensor([-1.0, 1.0]), times, events).sum()
    assert right < 1 < wrong
