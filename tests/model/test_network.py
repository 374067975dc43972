import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcti.errors import DataError
from mcti.model.network import gene_cost
from tests.model.cases import GENES, batch, config, network, small_paper, survival_loss

CONFIGS = {
    "tiny": config(),
    "tiny, entropic": config(solver="sinkhorn", entropy=0.2, iterations=300, tolerance=1e-6),
    "compact": config("compact"),
    "paper, small": small_paper(),
}
AXES = {"gene_axes": 5, "feature_axes": 6}
FLAGS = {
    "absent modalities": config("compact", missing=True, **AXES),
    "covariates": config("compact", covariates=("age", "is_female"), **AXES),
    "all of both, paper": small_paper(missing=True, covariates=("age",), critical_share=0.6),
    "few critical patches": config("compact", critical_share=0.7, **AXES),
    "continuous": config("compact", head="continuous", **AXES),
    "hard negatives": config("compact", hard_negatives=4, **AXES),
    "dense genes, kl": config("compact", gene_branch="dense", gene_measure="kl", **AXES),
    "low rank": config("compact", solver="low_rank", rank=4, iterations=10, **AXES),
    "unbalanced": config("compact", solver="unbalanced", entropy=0.2, **AXES),
    "blocks of seven": config("compact", block=7, **AXES),
}


def fields(prediction):
    result = {field.name: getattr(prediction, field.name) for field in dataclasses.fields(prediction)}
    return {name: value for name, value in result.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_padded_batch_gives_the_numbers_of_the_patients_one_by_one(name):
    """1e-5 relative: float32 sums in another order. Sizes from one patch to more than K; the padding holds sevens."""
    net = network(CONFIGS[name]).eval()
    sizes = [40, 1, 3, 17]
    patches, mask, genes = batch(sizes)
    with torch.no_grad():
        together = fields(net(patches, mask, genes))
        for row, size in enumerate(sizes):
            alone = fields(net(patches[row : row + 1, :size], mask[row : row + 1, :size], genes[row : row + 1]))
            for key, value in alone.items():
                torch.testing.assert_close(together[key][row], value[0], rtol=1e-5, atol=2e-6, msg=f"{key} of {size}")


@pytest.mark.parametrize("name", FLAGS)
def test_under_every_flag_a_padded_batch_gives_the_numbers_of_the_patients_one_by_one(name):
    """As above, at the sizes about K; the second patient has no slides, the first no genes and an unknown covariate."""
    shape = FLAGS[name]
    net = network(shape).eval()
    sizes = [shape.critical, 1, 2, shape.critical - 1, shape.critical + 1, 60]
    patches, mask, genes = batch(sizes)
    optional = {}
    if shape.covariates:
        optional["covariates"] = torch.randn(
            len(sizes), len(shape.covariates), generator=torch.Generator().manual_seed(2)
        )
        optional["covariates"][0, 0] = torch.nan
    if shape.missing:
        position = torch.arange(len(sizes))
        optional |= {"slides_present": position != 1, "genes_present": position != 0}
    with torch.no_grad():
        together = fields(net(patches, mask, genes, **optional))
        for row, size in enumerate(sizes):
            present = slice(row, row + 1)
            single = {key: value[present] for key, value in optional.items()}
            alone = fields(net(patches[present, :size], mask[present, :size], genes[present], **single))
            for key, value in alone.items():
                torch.testing.assert_close(together[key][row], value[0], rtol=1e-5, atol=2e-6, msg=f"{key} of {size}")


@pytest.mark.parametrize("name", ["tiny", "paper, small"])
def test_padding_takes_no_gradient(name):
    net = network(CONFIGS[name]).eval()
    patches, mask, genes = batch([9, 3])
    patches.requires_grad_()
    prediction = net(patches, mask, genes)
    (prediction.hazard_logits.sum() + prediction.subtype_logits.sum() + prediction.instance_logits.sum()).backward()
    assert patches.grad[mask].any()
    assert not patches.grad[~mask].any()


def test_the_curve_follows_from_the_hazards():
    """h = sigmoid(logits), S_j = product of (1 - h_l), risk = -sum of S (docs/model.md, section 6)."""
    prediction = network(config()).eval()(*batch([20, 5]))
    survival = torch.cumprod(1 - prediction.hazard_logits.sigmoid(), 1)
    torch.testing.assert_close(prediction.survival, survival)
    torch.testing.assert_close(prediction.risk, -survival.sum(1))
    torch.testing.assert_close(prediction.hazard, prediction.hazard_logits.sigmoid())


@pytest.mark.parametrize("what", ["empty bag", "NaN", "width", "genes", "mask"])
def test_a_batch_that_cannot_be_read_is_refused_before_any_arithmetic(what, monkeypatch):
    patches, mask, genes = batch([5, 4])
    if what == "empty bag":
        mask[1] = False
    elif what == "NaN":
        patches[1, 2, 7] = torch.nan
    net = network(config()).eval()
    monkeypatch.setattr(net.pathology, "forward", lambda *_: pytest.fail("arithmetic"))
    wrong = {"width": (patches[..., :7], mask, genes), "genes": (patches, mask, genes[:, 1:])}
    wrong["mask"] = (patches, mask.float(), genes)
    with pytest.raises(DataError):
        net(*wrong.get(what, (patches, mask, genes)))


def test_the_order_of_the_patches_changes_nothing():
    net = network(config()).eval()
    patches, mask, genes = batch([30])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one, other = net(patches, mask, genes), net(patches[:, order], mask, genes)
    torch.testing.assert_close(other.hazard_logits, one.hazard_logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(order[other.critical[0]], one.critical[0])


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    critical=st.integers(1, 6),
    tokens=st.integers(1, 3),
    task_tokens=st.integers(1, 4),
    width=st.sampled_from([2, 6]),
    stages=st.integers(1, 2),
    solver=st.sampled_from(["assignment", "sinkhorn"]),
    axes=st.integers(0, 14),
    seed=st.integers(0, 99),
)
def test_any_shape_gives_finite_outputs_of_the_promised_shape(  # noqa: PLR0913  (one argument per drawn size)
    sizes, critical, tokens, task_tokens, width, stages, solver, axes, seed
):
    depths = (1,) * stages
    shape = config(critical=critical, tokens=tokens, task_tokens=task_tokens, width=width, solver=solver, heads=2,
                  encoder_depths=depths, decoder_depths=depths, gene_axes=axes, feature_axes=axes)  # fmt: skip
    prediction = network(shape, seed).eval()(*batch(sizes, seed), details=True)
    count = len(sizes)
    assert prediction.hazard_logits.shape == prediction.survival.shape == (count, 4)
    assert prediction.subtype_logits.shape == prediction.instance_logits.shape == (count, 2)
    assert prediction.critical.shape == prediction.critical_mass.shape == (count, critical)
    assert prediction.gene_plan.shape == (count, critical, tokens)
    assert prediction.gene_groups.shape == (count, tokens, len(GENES))
    assert len(prediction.couplings) == 2 * stages + 1
    assert (prediction.critical >= 0).sum(1).tolist() == [min(size, critical) for size in sizes]
    assert all(torch.isfinite(value).all() for value in fields(prediction).values())


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_identical_patches_give_finite_outputs_and_gradients(same):
    net = network(config())
    prediction = net(torch.full((2, 9, 12), same), torch.ones(2, 9, dtype=torch.bool), torch.zeros(2, len(GENES)))
    (prediction.risk.sum() + prediction.subtype_logits.sum()).backward()
    assert torch.isfinite(prediction.risk).all()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_every_parameter_learns_from_the_three_losses():
    """A parameter without gradient is unused; the reference has 1.3 billion of them."""
    for shape in (config(), config("compact"), small_paper(soft_instance_gate=True)):
        net = network(shape)
        patches, mask, genes = batch([20, 9, 30])
        prediction = net(patches, mask, genes)
        loss = survival_loss(prediction, torch.tensor([0, 1, 3]), torch.tensor([True, False, True]))
        loss = loss + torch.nn.functional.cross_entropy(prediction.subtype_logits, torch.tensor([0, 1, 1]))
        (loss + torch.nn.functional.cross_entropy(prediction.instance_logits, torch.tensor([0, 1, 1]))).backward()
        silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert silent == []


def train(seed, steps, shape, count=8):
    net = network(shape, seed, loud=False)
    patches, mask, genes = batch([5 + row for row in range(count)], seed=5)
    bins = torch.arange(count) % 4
    event = torch.ones(count, dtype=torch.bool)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        survival_loss(net(patches, mask, genes), bins, event).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        prediction = net(patches, mask, genes)
    return net, prediction, float(survival_loss(prediction, bins, event)), bins


@pytest.mark.slow
@pytest.mark.parametrize("shape", [config(), config("compact", dropout=0.0, gene_dropout=0.0)], ids=["tiny", "compact"])
def test_the_whole_network_overfits_eight_patients(shape):
    """NLL below 0.05 and every pair of patients in different bins in the right order (C = 1)."""
    _, prediction, loss, bins = train(0, 150, shape)
    assert loss < 0.05
    pairs = [(i, j) for i in range(8) for j in range(8) if bins[i] < bins[j]]
    assert all(prediction.risk[i] > prediction.risk[j] for i, j in pairs)


@pytest.mark.slow
def test_one_seed_twice_gives_the_same_weights_after_twenty_steps_bit_for_bit():
    shape = config(dropout=0.2, gene_dropout=0.2)
    first, second = train(3, 20, shape)[0].state_dict(), train(3, 20, shape)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train(4, 20, shape)[0].state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("solver", ["assignment", "sinkhorn"])
def test_half_precision_stays_within_two_hundredths(solver):
    """bf16 keeps eight bits; couplings and the order of the scores are computed in float32."""
    net = network(config("compact", solver=solver), loud=False).eval()
    inputs = batch([30, 9])
    with torch.no_grad():
        exact = net(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            half = net(*inputs)
    assert half.hazard_logits.dtype == torch.float32
    assert torch.equal(half.critical, exact.critical)
    torch.testing.assert_close(half.hazard, exact.hazard, rtol=0, atol=2e-2)
    torch.testing.assert_close(half.survival, exact.survival, rtol=0, atol=2e-2)


def test_absent_slides_are_one_learned_token_for_any_bag():
    net = network(config(missing=True)).eval()
    patches, mask, genes = batch([9, 9])
    patches[1] = patches[1] * 3
    absent = torch.tensor([False, False])
    with torch.no_grad():
        prediction = net(patches, mask, genes[:1].expand(2, -1), slides_present=absent)
        present = net(patches, mask, genes[:1].expand(2, -1))
    torch.testing.assert_close(prediction.risk[0], prediction.risk[1])
    assert (prediction.critical == -1).all()
    assert not torch.allclose(present.risk, prediction.risk)


def test_absent_slides_may_come_with_an_empty_bag():
    net = network(config(missing=True)).eval()
    patches, mask, genes = batch([9, 1])
    empty = mask & torch.tensor([[True], [False]])
    prediction = net(patches, empty, genes, slides_present=torch.tensor([True, False]))
    alone = net(patches[:1], mask[:1], genes[:1])
    assert torch.isfinite(prediction.risk).all()
    torch.testing.assert_close(prediction.risk[0], alone.risk[0], rtol=1e-5, atol=1e-6)


def test_absent_genes_are_learned_tokens_for_any_vector():
    net = network(config(missing=True)).eval()
    patches, mask, genes = batch([9, 9])
    patches[1] = patches[0]
    prediction = net(patches, mask, genes, genes_present=torch.tensor([False, False]))
    torch.testing.assert_close(prediction.risk[0], prediction.risk[1])


def test_an_absent_modality_is_refused_where_there_is_no_stand_in():
    with pytest.raises(DataError, match=r"no slides.*row 1"):
        network(config())(*batch([5, 5]), slides_present=torch.tensor([True, False]))


def test_the_gene_cost_takes_each_rows_minimum_and_the_largest_distance():
    """Rows (1, 3) and (2, 2) less their minimum are (0, 2) and (0, 0); the gene row (5, 6) is (0, 1)."""
    tokens, genes = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]]), torch.tensor([[[5.0, 6.0], [4.0, 4.0]]])
    torch.testing.assert_close(gene_cost(tokens, genes), torch.tensor([[[0.25, 1.0], [0.25, 0.0]]]))
    assert (gene_cost(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)) == 0).all()


def test_a_coupling_reports_its_health():
    prediction = network(config()).eval()(*batch([20, 3]), details=True)
    result = prediction.couplings[0].health()
    assert result.moved.shape == (4,)  # two streams of two patients
    assert ((result.moved >= 0) & (result.moved <= 1)).all()
    assert (result.rank_rows >= 1).all()
