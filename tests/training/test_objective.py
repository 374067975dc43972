import dataclasses
import math

import pytest
import torch

from mcti.dataset.batches import collate
from mcti.training.run import Run
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
