"""Networks of an ensemble as one: every output of every member, for each architecture."""

import dataclasses

import pytest
import torch

from mcti.model.member_predictions import StackedModels
from mcti.model.members import can_be_stacked, stack
from mcti.model.trained import Fitted, Scale, TrainedModel
from tests.model.cases import FEATURES, GENES, batch, config, network, small_paper

CONFIGS = {
    "tiny": config(),
    "compact": config("compact"),
    "paper": small_paper(),
    "missing": config(missing=True),
    "dense": config(gene_branch="dense", gene_width=16),
    "no skip": config(linear_skip=False),
    "sinkhorn": config(solver="sinkhorn"),
    "low rank": config(solver="low_rank"),
    "no guidance": config("no_guidance"),
    "clinical": config(covariates=("age", "is_female")),
    "cox": dataclasses.replace(config("compact"), cox_branch=True),
    "rates": config(head="continuous"),
}
OUTPUTS = ("hazard_logits", "survival", "risk", "subtype_logits", "instance_logits", "critical", "critical_mass",
           "gene_plan", "gene_groups")  # fmt: skip


def members(of, count=3):
    """Networks of one configuration with different weights; their Cox branches have coefficients and limits."""
    nets = [network(of, seed=seed).eval() for seed in range(count)]
    for seed, net in enumerate(nets):
        if net.cox_branch is not None:
            generator = torch.Generator().manual_seed(seed)
            for coefficients in net.cox_branch.buffers():
                coefficients.copy_(0.5 * torch.rand(coefficients.shape, generator=generator))
            net.cox_branch.gene_limit.fill_(1.2 + seed / 5)
    return nets


def inputs(of, size, count=3):
    """One patient as the input of `count` members, who read different values of it."""
    patches, mask, genes = batch([size] * count)
    flags = {}
    if of.missing:
        flags = {"slides_present": torch.tensor([size > 3] * count), "genes_present": torch.ones(count).bool()}
    if of.covariates:
        flags["covariates"] = torch.tensor([[0.5, 1.0], [float("nan"), 0.0], [-1.0, 1.0]])
    return {"patches": patches, "mask": mask, "genes": genes, **flags}


@pytest.mark.parametrize("size", [3, 20])  # fewer patches than critical ones, and more
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_each_row_is_the_output_of_its_member(name, size):
    nets, batched = members(CONFIGS[name]), inputs(CONFIGS[name], size)
    together = stack(nets)(**batched, details=True)
    for row, net in enumerate(nets):
        alone = net(**{key: value[row : row + 1] for key, value in batched.items()}, details=True)
        for field in OUTPUTS:
            expected, actual = getattr(alone, field), getattr(together, field)
            assert (expected is None) == (actual is None)
            if expected is not None:
                torch.testing.assert_close(actual[row : row + 1], expected, rtol=1e-5, atol=2e-6)
        for layer, norm in alone.norms.items():
            torch.testing.assert_close(together.norms[layer][:, row : row + 1], norm, rtol=1e-5, atol=1e-6)


def test_the_members_keep_their_weights():
    nets = members(CONFIGS["cox"])
    before = [{key: value.clone() for key, value in net.state_dict().items()} for net in nets]
    stacked = stack(nets)
    assert not any(weights.requires_grad for weights in stacked.parameters())
    for net, weights in zip(nets, before, strict=True):
        assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
        assert all(value.requires_grad for value in net.parameters())


def test_which_networks_are_stacked(monkeypatch):
    nets = members(config(), 2)
    assert can_be_stacked(nets)
    assert not can_be_stacked(nets[:1])
    assert not can_be_stacked([nets[0], network(config(width=8, heads=1))])
    assert not can_be_stacked(members(config(critical_share=0.5), 2))  # as many tokens as the scores decide
    monkeypatch.setattr("mcti.model.members.MAX_PARAMETERS", 100)
    assert not can_be_stacked(nets)


def trained(of, count=3):
    """Models of networks with a scale of their own each."""
    models = {}
    for number, net in enumerate(members(of, count)):
        scales = [Scale(torch.full((size,), 0.1 * number), torch.full((size,), 1.0 + number / 4)) for size in (9, 12)]
        models[f"fold_{number}"] = TrainedModel(net, of, Fitted(*scales, (0.0, 12.0, 24.0, 36.0, 60.0 + number)))
    return models


def test_predictions_of_stacked_models_are_those_of_each_one():
    assert (len(GENES), FEATURES) == (9, 12)
    models = trained(CONFIGS["cox"])
    patches, _, genes = batch([30])
    rows = StackedModels.of(models).predict(patches[0], genes[0], (12.0, 50.0))
    for name, model in models.items():
        expected = model.predict(patches[0], genes[0], (12.0, 50.0))
        assert rows[name] == pytest.approx(expected, rel=0, abs=1e-6)
    assert rows == StackedModels.of(models).predict(patches[0], genes[0], (12.0, 50.0))  # the same bits again
    assert len({row["risk"] for row in rows.values()}) == len(models)
