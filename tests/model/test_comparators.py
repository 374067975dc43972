"""The comparators: one signature, no effect of padding, gradients for every weight, outputs equal to the formulas."""

import dataclasses
import math

import pytest
import torch

from mcti import params
from mcti.errors import DataError, UsageError
from mcti.model.comparators import build
from mcti.model.comparators.genes import GeneSets
from mcti.model.comparators.pooling import GatedAttention
from mcti.model.comparators.transmil import squares
from mcti.model.network import MCTI
from mcti.model.presets import preset
from mcti.model.summary import describe
from mcti.params import TrainParams
from mcti.params.architecture import FIELDS
from mcti.params.variants import ABLATIONS, COMPARATORS, NETWORK_FIELDS
from tests.model.cases import FEATURES, GENES, batch, config, survival_loss

SIZES = [40, 1, 3, 17]


def peer(name, seed=0, **overrides):
    torch.manual_seed(seed)
    return build(config(name, **overrides))


def tensors(prediction):
    values = {field.name: getattr(prediction, field.name) for field in dataclasses.fields(prediction)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("name", [*COMPARATORS, *ABLATIONS])
def test_a_padded_batch_gives_the_numbers_of_the_patients_one_by_one(name):
    """1e-5 relative: float32 sums in another order. The padding holds sevens."""
    net = peer(name).eval()
    patches, mask, genes = batch(SIZES)
    with torch.no_grad():
        together = tensors(net(patches, mask, genes))
        for row, size in enumerate(SIZES):
            alone = tensors(net(patches[row : row + 1, :size], mask[row : row + 1, :size], genes[row : row + 1]))
            for key, value in alone.items():
                torch.testing.assert_close(together[key][row], value[0], rtol=1e-5, atol=2e-6, msg=f"{key} of {size}")


@pytest.mark.parametrize("name", [*COMPARATORS, *ABLATIONS])
def test_a_prediction_has_the_shapes_of_the_reference_network(name):
    reference = tensors(build(config("compact"))(*batch(SIZES)))
    values = tensors(peer(name)(*batch(SIZES)))
    for key, value in values.items():
        assert value.shape == reference[key].shape, key
    torch.testing.assert_close(values["risk"], -torch.cumprod(1 - values["hazard_logits"].sigmoid(), 1).sum(1))


@pytest.mark.parametrize("name", list(COMPARATORS))
def test_six_patients_are_learned_by_heart(name):
    """The loss on random outcomes falls almost to its minimum, so every weight is trained."""
    net = peer(name, dropout=0.0, gene_dropout=0.0)
    patches, mask, genes = batch([5, 9, 2, 7, 4, 6])
    bins, event = torch.tensor([0, 1, 2, 3, 0, 2]), torch.tensor([True, True, True, True, False, True])
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    first = None
    for _ in range(120):
        optimizer.zero_grad()
        loss = survival_loss(net(patches, mask, genes), bins, event)
        loss.backward()
        optimizer.step()
        first = loss.item() if first is None else first
    assert loss.item() < 0.1 * first


@pytest.mark.parametrize(
    ("name", "slides", "genes"),
    [
        ("snn", False, True),
        ("mean_pool", True, False),
        ("abmil", True, False),
        ("transmil", True, False),
        ("late_fusion", True, True),
        ("mcat", True, True),
        ("motcat", True, True),
    ],
)
def test_a_network_reads_the_modalities_it_is_named_for_and_no_other(name, slides, genes):
    net = peer(name).eval()
    patches, mask, expression = batch(SIZES)
    patches.requires_grad_()
    expression.requires_grad_()
    net(patches, mask, expression).risk.sum().backward()
    assert (patches.grad is not None and bool(patches.grad.any())) == slides
    assert (expression.grad is not None and bool(expression.grad.any())) == genes


def test_gated_attention_by_hand():
    """Width 1, all weights 1, biases 0: scores tanh(x)·sigmoid(x); x = 0 and 1 -> 0 and 0.76159·0.73106 = 0.55677."""
    pool = GatedAttention(1)
    for layer in (pool.values, pool.gates, pool.score):
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    pooled, weights = pool(torch.tensor([[[0.0], [1.0], [50.0]]]), torch.tensor([[True, True, False]]))
    share = 1 / (1 + math.exp(-math.tanh(1) / (1 + math.exp(-1))))
    assert weights[0].tolist() == pytest.approx([1 - share, share, 0], abs=1e-6)
    assert float(pooled) == pytest.approx(share, abs=1e-6)


def test_the_square_of_transmil_by_hand():
    """Five patches on 3 × 3: 0 1 2 / 3 4 0 / 1 2 3; one patch of a batch has its corner alone."""
    mask = torch.tensor([[True] * 5, [True] + [False] * 4])
    source, grid = squares(mask)
    assert source[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert grid[0].all()
    assert grid[1].tolist() == [True] + [False] * 8


def test_the_gene_sets_are_a_partition():
    """Each gene changes exactly one token; the padding index changes none."""
    sets = GeneSets(config("mcat", tokens=4, gene_dropout=0.0))
    genes = torch.zeros(1, len(GENES))
    moved = [(sets(genes.index_fill(1, torch.tensor([g]), 3.0)) != sets(genes)).any(-1)[0] for g in range(len(GENES))]
    assert [int(tokens.sum()) for tokens in moved] == [1] * len(GENES)
    assert torch.stack(moved).sum(0).tolist() == [3, 2, 2, 2]  # nine genes in four sets


def test_the_answers_of_motcat_are_means_of_patches():
    """The columns of the plan are normalised to one: with equal patches every gene set receives that patch."""
    net = peer("motcat").eval()
    tokens = torch.randn(1, 1, 64).expand(1, 6, 64)
    answers, weights = net.couple(tokens, torch.ones(1, 6, dtype=torch.bool), torch.randn(1, 8, 64))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 8))
    torch.testing.assert_close(answers, tokens[:, :1].expand(1, 8, 64))


@pytest.mark.parametrize("name", ["abmil", "mcat", "mean_pool"])
def test_the_critical_patches_of_a_peer_are_those_with_the_largest_weight(name):
    net = peer(name).eval()
    patches, mask, genes = batch([40, 3])
    values = net(patches, mask, genes)
    assert (values.critical_scores.diff(dim=1) <= 0).all()
    assert (values.critical[1] >= 0).sum() == 3
    assert values.critical_scores[1].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", list(COMPARATORS))
def test_absent_inputs_are_replaced_by_learned_values(name):
    net = peer(name, missing=True).eval()
    patches, mask, genes = batch(SIZES)
    gone = torch.tensor([False, True, False, True])
    first = net(patches, mask, genes, slides_present=~gone, genes_present=gone)
    other = torch.where(gone[:, None, None], patches + 5, patches), torch.where(gone[:, None], genes, genes - 4)
    second = net(other[0], mask, other[1], slides_present=~gone, genes_present=gone)
    torch.testing.assert_close(first.risk, second.risk, rtol=0, atol=0)


def test_a_peer_without_stand_ins_refuses_an_absent_modality():
    with pytest.raises(DataError, match="no slides"):
        peer("mcat")(*batch([3]), slides_present=torch.tensor([False]))


def test_covariates_reach_the_hazards_and_are_asked_for_by_name():
    net = peer("abmil", covariates=["age"])
    torch.nn.init.ones_(net.clinical.weight)
    low, high = (net.eval()(*batch([3]), covariates=torch.tensor([[age]])).risk for age in (-1.0, 1.0))
    assert high > low
    with pytest.raises(DataError, match="age"):
        net(*batch([3]))


@pytest.mark.parametrize("name", ["abmil", "no_subtype_task"])
def test_without_the_subtype_task_its_loss_trains_the_head_only(name):
    net = peer(name)
    prediction = net(*batch(SIZES))
    (prediction.subtype_logits.sum() + prediction.instance_logits.sum()).backward()
    moved = {key.split(".")[0] for key, p in net.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == {"subtype_head"}


def test_the_subtype_task_shapes_the_whole_network_where_it_is_on():
    net = peer("compact")
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2) if not bool(p.any()) else None
    prediction = net(*batch(SIZES))
    (prediction.subtype_logits.sum() + prediction.instance_logits.sum()).backward()
    assert bool(net.pathology.instance.weight.grad.any())
    assert bool(net.genomics.contents.grad.any())


def test_without_guidance_there_is_no_coupling_and_task_tokens_act_by_attention_alone():
    assert peer("no_guidance")(*batch(SIZES), details=True).couplings == []
    assert len(peer("compact")(*batch(SIZES), details=True).couplings) == 3


@pytest.mark.parametrize("name", COMPARATORS)
def test_a_peer_refuses_what_mcti_refuses(name):
    net = peer(name)
    patches, mask, genes = batch([5, 4])
    for wrong in ((patches[..., :7], mask, genes), (patches, mask, genes[:, 1:]), (patches, mask.float(), genes)):
        with pytest.raises(DataError, match="the batch"):
            net(*wrong)
    patches[1, 2, 7] = torch.nan
    with pytest.raises(DataError, match=r"row 1 of the batch, patch row 2"):
        net(patches, mask, genes)


def test_an_ablation_differs_from_compact_in_its_part_alone():
    compact = vars(config("compact"))
    for name, change in ABLATIONS.items():
        assert {k for k, v in vars(config(name)).items() if v != compact[k]} == {"preset", *change}


def test_the_cost_of_a_peer_is_counted():
    """snn: two products and two heads; 2 flops a weight."""
    without = {"gene_axes": 0, "feature_axes": 0}
    net = preset("snn", features=FEATURES, genes=GENES, classes=("a", "b"), bins=4, **without)
    assert describe(net, 50).forward_flops == {"snn": 2 * (9 * 64 + 64 * 64 + 64 * 4 + 64 * 2)}
    assert isinstance(build(config("compact")), MCTI)


CHANGED = {
    "width": 8, "query": 5, "critical": 7, "tokens": 3, "task_tokens": 3, "gene_branch": "dense", "gene_width": 9,
    "encoder_depths": (2,), "bottleneck_depth": 2, "decoder_depths": (2,), "attention_depth": 2, "heads": 2,
    "solver": "sinkhorn", "entropy": 0.2, "iterations": 1, "tolerance": 0.9, "gene_entropy": 0.4, "gene_marginal": 0.9,
    "gene_measure": "kl", "dropout": 0.5, "gene_dropout": 0.5, "transpose_plan": False, "soft_instance_gate": False,
    "inverse_temperature": 1.0, "normalise_mass": False, "zero_init_residual": True, "linear_skip": True,
    "bilinear_rank": 2, "plan_gradient": False, "missing": True, "critical_share": 0.5, "rank": 3, "head": "continuous",
    "gene_axes": 4, "feature_axes": 3, "hard_negatives": 3, "plan": "uniform", "guidance": False,
}  # fmt: skip
"""A value of each field that differs from the presets of the comparators."""
TESTED_ELSEWHERE = {"modalities", "block", "subtype_task", "covariates"}
"""Read in the selection of inputs, in the Cox branch, in the gradient, and with an additional input."""
SHAPES = ("gene_plan", "critical", "critical_scores", "critical_logits", "critical_mass")


def outcome_of(name, **changes):
    """The outputs of a training step and of a prediction that do not depend on the number of critical patches."""
    net = peer(name, **changes)
    torch.manual_seed(1)
    present = {"slides_present": torch.tensor([True] * 4), "genes_present": torch.tensor([True, True, True, False])}
    flags = present if changes.get("missing") else {}
    outputs = [net.train()(*batch(SIZES), **flags), net.eval()(*batch(SIZES), **flags)]
    return [tensors(output) for output in outputs]


def differs(name, field, usual):
    """Whether a changed field changes an output; the patches that it shows as critical are outputs, too."""
    changed = outcome_of(name, **{field: CHANGED[field]})
    if field == "critical":
        return not torch.equal((usual[1]["critical"] >= 0).sum(1), (changed[1]["critical"] >= 0).sum(1))
    values = [key for key in usual[0] if key not in SHAPES]
    return any(not torch.equal(a[key], b[key]) for a, b in zip(usual, changed, strict=True) for key in values)


@pytest.mark.parametrize("name", list(COMPARATORS))
def test_the_listed_fields_are_those_that_the_network_reads(name):
    """Each other field has no influence on any output, so that params.yaml refuses it."""
    assert set(CHANGED) | TESTED_ELSEWHERE == set(FIELDS)
    usual = outcome_of(name)
    read = {field for field in CHANGED if differs(name, field, usual)}
    assert read | TESTED_ELSEWHERE == set(NETWORK_FIELDS[name])


def test_params_yaml_refuses_a_field_that_the_network_of_the_preset_does_not_read():
    for name in COMPARATORS:
        for field in set(FIELDS) - set(NETWORK_FIELDS[name]):
            with pytest.raises(UsageError) as caught:
                params.check(TrainParams, {"preset": name, "architecture": {field: CHANGED[field]}}, "params.yaml")
            assert caught.value.what == f"preset {name} does not read {field}"
            assert caught.value.hint == f"it reads {', '.join(NETWORK_FIELDS[name])}"
    assert TrainParams.model_validate({"architecture": {"heads": 2}}).architecture.heads == 2
