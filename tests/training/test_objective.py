import dataclasses
import math

import pytest
import torch

from mcti.dataset.batches import collate
from mcti.dataset.time_bins import shares_before
from mcti.training import losses
from mcti.training.run import Run, c_index
from tests import left_truncated as lt
from tests.training import factories
from tests.training.test_loop import task


def test_the_loss_is_the_weighted_sum_of_its_terms():
    prepared = task(lambda_survival=2.0, lambda_subtype=0.5, lambda_instance=0.25)
    run = Run(prepared, torch.device("cpu"))
    batch = collate(list(prepared.bags), prepared.fitted, 99, (0, 0))
    terms = run.objective(run.state.net, batch, None)
    expected = 2.0 * terms["survival"] + 0.5 * terms["subtype"] + 0.25 * terms["instance"]
    torch.testing.assert_close(terms["loss"], expected)
    assert terms["risk"].shape == (len(prepared.bags),)


def test_pairs_of_a_ranking_loss_by_hand():
    """Patient 0 has the event first; the loss of its one comparable pair is log2(1 + exp(risk_1 - risk_0))."""
    run = Run(task(survival_loss="ranking"), torch.device("cpu"))
    first, second = factories.bags(2)
    bags = [
        dataclasses.replace(first, time_months=1.0, event=True),
        dataclasses.replace(second, time_months=2.0, event=False),
    ]
    risk = torch.tensor([0.5, 1.5])
    terms = run.objective.pair_terms(risk, bags, {})
    assert terms.tolist() == pytest.approx([math.log2(1 + math.e), 0.0])
    assert run.objective.compares
    values, slopes = run.objective.pair_surrogate(risk, bags, {})
    assert values.tolist() == pytest.approx(terms.tolist())
    sigmoid = math.e / (1 + math.e) / math.log(2)
    assert slopes.tolist() == pytest.approx([-sigmoid, sigmoid])


def test_late_entry_enters_the_likelihood_and_the_pairs():
    """The likelihood is the loss with the share of each bin before the entry; a pair needs both under observation."""
    prepared = task(survival_loss="ranking")
    bags = [dataclasses.replace(bag, entry_months=bag.time_months / 2) for bag in prepared.bags]
    objective = Run(dataclasses.replace(prepared, bags=bags), torch.device("cpu")).objective
    batch = collate(bags, prepared.fitted, 99, (0, 0))
    logits = torch.randn(len(bags), len(prepared.fitted.edges) - 1)
    before = shares_before(torch.tensor([bag.entry_months for bag in bags]), prepared.fitted.edges).float()
    expected = losses.discrete_nll(logits, batch.bins, batch.events, prepared.params.alpha, before)
    torch.testing.assert_close(objective.likelihood(logits, batch), expected)
    assert not torch.allclose(expected, losses.discrete_nll(logits, batch.bins, batch.events, prepared.params.alpha))
    times, events = (torch.tensor([getattr(bag, name) for bag in bags]) for name in ("time_months", "event"))
    risk = torch.randn(len(bags))
    terms = losses.ranking_terms(risk, times, events, times / 2)
    torch.testing.assert_close(objective.pair_terms(risk, bags, {}), terms)


def test_a_patient_of_the_memory_is_compared_with_events_after_its_entry_only():
    prepared = task(survival_loss="ranking")
    months = max(bag.time_months for bag in prepared.bags)
    bags = [dataclasses.replace(bag, entry_months=0.0) for bag in prepared.bags]
    first = next(bag for bag in bags if bag.event)
    late, early = (dataclasses.replace(first, patient_id=name, entry_months=entry, time_months=months + 9, event=False)
                   for name, entry in (("late", first.time_months), ("early", first.time_months / 2)))  # fmt: skip
    run = Run(dataclasses.replace(prepared, bags=[*bags, late, early]), torch.device("cpu"))
    risk = torch.zeros(1)
    for other, expected in ((late, 0.0), (early, 1.0)):
        terms = run.objective.pair_terms(risk, [first], {other.patient_id: (0.0, other.time_months)})
        assert terms.tolist() == pytest.approx([expected])


def test_the_concordance_of_the_training_counts_from_the_entry():
    """The number of R (tests/left_truncated.py)."""
    rows = zip(factories.bags(12), lt.TIME, lt.EVENT, lt.ENTRY, strict=True)
    bags = [dataclasses.replace(bag, time_months=t, event=bool(event), entry_months=at) for bag, t, event, at in rows]
    assert c_index(bags, list(lt.X)) == pytest.approx(lt.CONCORDANCE, abs=1e-9)
