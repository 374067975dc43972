import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mcti.dataset.time_bins import shares_before
from mcti.training import losses
from tests import left_truncated as lt

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


def test_cox_terms_with_late_entry_agree_with_coxph_of_r():
    """R survival 3.5-3 with ties by Efron and Breslow (tests/left_truncated.py): log likelihoods at 0 and maximum."""
    time, event, entry, x = (torch.from_numpy(values) for values in (lt.TIME, lt.EVENT, lt.ENTRY, lt.X))
    pairs = {"efron": (lt.EFRON, lt.EFRON_LOG_LIKELIHOODS), "breslow": (lt.COEFFICIENT, lt.LOG_LIKELIHOODS)}
    for ties, (beta, expected) in pairs.items():
        values = [-losses.cox_terms(x * factor, time, event, ties, entry).sum().item() for factor in (0.0, beta)]
        assert values == pytest.approx(expected, abs=1e-8)


def test_a_patient_is_at_risk_at_their_own_event_in_single_precision():
    """An entry a ten-millionth of a month before the event: both are one number in float32."""
    entry = torch.tensor([10.0, 0.0])
    times, events = torch.tensor([10.0 + 1e-7, 12.0]), torch.tensor([True, False])
    terms = losses.cox_terms(torch.zeros(2), times, events, "efron", entry)
    assert terms.tolist() == pytest.approx([math.log(2), 0.0])


def test_a_patient_who_enters_after_an_event_is_no_pair_of_the_ranking_loss():
    risk, times = torch.tensor([0.0, 3.0, 1.0]), torch.tensor([2.0, 5.0, 6.0])
    events, entries = torch.tensor([True, False, False]), torch.tensor([0.0, 2.0, 1.0])
    terms = losses.ranking_terms(risk, times, events, entries)
    assert terms[0].item() == pytest.approx(math.log2(1 + math.e))  # with the third patient alone


def test_discrete_nll_is_conditional_on_survival_to_the_entry():
    """Oracle: S linear within a bin, P(bin of the event | survival to the entry), patient by patient; edges 0, 1 … 4.

    An event in the bin of the entry e: (S(entry) - S_k) / S(entry), which the loss leaves without the constant 1 - f.
    """
    logits, bins, _, events = made(patients=60, seed=3)
    hazard = torch.sigmoid(logits).numpy()
    survival = np.concatenate([np.ones((60, 1)), np.cumprod(1 - hazard, axis=1)], axis=1)
    entry = np.random.default_rng(0).uniform(0, bins.numpy() + 1)
    before = np.clip(entry[:, None] - np.arange(4), 0, 1)
    expected = []
    for row, (k, event) in enumerate(zip(bins.tolist(), events.tolist(), strict=True)):
        to_entry = np.interp(entry[row], np.arange(5), survival[row])
        if not event:
            expected.append(-np.log(survival[row, k + 1] / to_entry))
        else:
            start = max(entry[row], k)
            gone = np.interp(start, np.arange(5), survival[row]) - survival[row, k + 1]
            expected.append(-np.log(gone / to_entry) + np.log(k + 1 - start))
    terms = losses.discrete_nll(logits, bins, events, 0.0, torch.from_numpy(before))
    np.testing.assert_allclose(terms, expected, rtol=1e-9)
    zero = losses.discrete_nll(logits, bins, events, 0.3, torch.zeros(60, 4, dtype=torch.float64))
    torch.testing.assert_close(zero, losses.discrete_nll(logits, bins, events, 0.3), rtol=0, atol=0)


def test_the_conditional_discrete_nll_and_its_gradient_stay_finite():
    logits = torch.tensor([[200.0, -3.0], [-200.0, 200.0]], requires_grad=True)
    before = torch.tensor([[1.0, 0.5], [1.0, 0.999999999]])
    terms = losses.discrete_nll(logits, torch.tensor([1, 1]), torch.tensor([True, False]), 0.0, before)
    terms.sum().backward()
    assert terms.isfinite().all()
    assert logits.grad.isfinite().all()


def test_the_piecewise_rate_with_late_entry_is_events_per_time_at_risk():
    """One bin: the maximum likelihood rate is events / sum of (time - entry)."""
    entry, time, event = torch.tensor([0.0, 2, 5]), torch.tensor([4.0, 3, 9]), torch.tensor([True, False, True])
    logit = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    edges = (0.0, 10.0)
    for _ in range(3000):
        loss = losses.piecewise_nll(logit.expand(3, 1), time, event, edges, 0.0, shares_before(entry, edges)).sum()
        (slope,) = torch.autograd.grad(loss, logit)
        logit = (logit - 0.2 * slope).detach().requires_grad_()
    assert functional.softplus(logit).item() / 10 == pytest.approx(2 / 9, abs=1e-6)
