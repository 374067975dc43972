"""The Cox model next to the network: its inputs, and the combination of the two outputs."""

import dataclasses

import pytest
import torch

from mcti.errors import DataError
from mcti.model.comparators import build
from mcti.model.cox_branch import CoxBranch
from mcti.model.trained import Fitted, Scale, TrainedModel
from tests.model.cases import FEATURES, GENES, batch, config, network

LIMIT = 0.8
"""Of standardised genes, so that some of the test's genes are beyond it."""
OF = dataclasses.replace(config(covariates=("age", "sex")), cox_branch=True)


def filled(share: float) -> CoxBranch:
    path = CoxBranch(OF)
    for seed, (name, buffer) in enumerate(path.named_buffers()):
        if name not in ("cox_weight", "gene_limit"):
            buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(seed)))
    path.cox_weight.fill_(share)
    path.gene_limit.fill_(LIMIT)
    return path


def test_the_score_is_the_sum_of_its_parts_for_each_patient_alone():
    path, (patches, mask, genes) = filled(0.5), batch([3, 1, 5])
    covariates = torch.tensor([[0.5, -1.0], [torch.nan, 2.0], [0.0, torch.nan]])
    scores = path.scores(patches, mask, genes, covariates, None, None)
    for row, size in enumerate([3, 1, 5]):
        known = [0.0 if value != value else float(value) for value in covariates[row]]
        gone = [float(value != value) for value in covariates[row]]
        rows = patches[row, :size].numpy()
        wanted = float(rows.mean(0) @ path.features.numpy() + rows.std(0) @ path.spreads.numpy() - path.spread_offset)
        wanted += float(genes[row].clip(-LIMIT, LIMIT) @ path.genes)
        wanted += sum(v * float(c) for v, c in zip([*known, *gone], path.covariates, strict=True))
        assert abs(float(scores[row]) - wanted) < 1e-5


def test_missing_inputs_have_no_contribution():
    path, (patches, mask, genes) = filled(0.5), batch([3, 2])
    absent = torch.tensor([True, False])
    scores = path.scores(patches, mask, genes, None, absent, ~absent)
    only_slides = path.tiles(patches[:1, :3]).sum()
    torch.testing.assert_close(scores, torch.stack([only_slides, genes[1].clip(-LIMIT, LIMIT) @ path.genes]))


@pytest.mark.parametrize("block", [2, 100])
def test_the_parts_of_the_tiles_sum_to_the_score_of_the_slides(block):
    path, (patches, mask, genes) = filled(0.5), batch([7])
    path.block = block
    parts = path.tiles(patches)[0]
    assert parts.shape == (7,)
    torch.testing.assert_close(parts.sum(), (path.scores(patches, mask, 0 * genes, None, None, None))[0])


def test_a_single_tile_has_no_spread():
    path, (patches, mask, genes) = filled(0.5), batch([1])
    wanted = patches[0, 0] @ path.features - path.spread_offset
    torch.testing.assert_close(path.scores(patches, mask, 0 * genes, None, None, None)[0], wanted)
    torch.testing.assert_close(path.tiles(patches)[0, 0], wanted)


def test_the_logits_are_the_weighted_mean_of_both():
    logits, scores = torch.randn(2, 4), torch.tensor([0.3, -0.7])
    for share in (0.0, 0.25, 1.0):
        path = filled(share)
        cox = path.base + scores[:, None]
        torch.testing.assert_close(path(logits, scores), (1 - share) * logits + share * cox)


def test_before_the_fit_nothing_changes():
    inputs = batch([3, 2])
    for name in ("tiny", "abmil"):
        of = config(name)
        alone = build(of).eval() if name == "abmil" else network(of).eval()
        ensemble = build(dataclasses.replace(of, cox_branch=True)).eval()
        ensemble.load_state_dict(ensemble.state_dict() | alone.state_dict())
        assert torch.equal(ensemble(*inputs).hazard_logits, alone(*inputs).hazard_logits)


def test_it_is_no_weight_that_training_would_move():
    assert not list(CoxBranch(OF).parameters())


def test_a_model_without_a_limit_of_the_genes_is_refused():
    """Earlier versions had none: their predictions with the limit would be others."""
    scales = [Scale(torch.zeros(size), torch.ones(size)) for size in (len(GENES), FEATURES)]
    covariates = Scale(torch.zeros(2), torch.ones(2))
    trained = TrainedModel(build(OF), OF, Fitted(*scales, (0.0, 5.0, 10.0, 20.0, 60.0), covariates))
    state = dict(trained.net.state_dict())
    del state["cox_branch.gene_limit"]
    with pytest.raises(DataError, match=r"cox_branch\.gene_limit") as caught:
        TrainedModel.from_state(state, trained.spec(), "fold_0/model.json")
    assert str(caught.value).count("\n") == 0
    assert caught.value.where == "fold_0/model.json"
    assert "an earlier version of mcti made this model: train it again" in caught.value.hint
