import numpy as np
import pytest
import torch

from mcti.model.pathology import PatchAttention, PathologyBranch, _highest
from tests.model import reference_numpy
from tests.model.cases import FEATURES, batch, config, small_paper


def branch(seed=0, paper=False, **overrides):
    torch.manual_seed(seed)
    return PathologyBranch(small_paper(**overrides) if paper else config(**overrides))


def test_channel_attention_agrees_with_the_maths_page_written_out():
    """Oracle: tests/model/reference_numpy.py, section 1 step 6, NumPy float64."""
    torch.manual_seed(0)
    module = PatchAttention(8, 5).double()
    names = {
        "to_q.weight": "to_q.weight", "to_k.weight": "to_k.weight", "to_v.weight": "to_v.weight",
        "proj_v.weight": "mix.weight", "rescale": "scale", "proj.weight": "out.weight", "proj.bias": "out.bias",
        "pos_emb.0.weight": "local.0.weight", "pos_emb.2.weight": "local.2.weight",
    }  # fmt: skip
    ours = module.state_dict()
    state = {key: ours[name].numpy() for key, name in names.items()}
    tokens = torch.randn(1, 5, 8, dtype=torch.float64)
    expected = reference_numpy.patch_channel_attention(reference_numpy.Weights(state), tokens[0].numpy())
    got = module(tokens, torch.ones(1, 5, dtype=torch.bool))[0].detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)  # both in float64


@pytest.mark.parametrize("paper", [True, False])
def test_blocks_of_the_bag_give_the_tokens_and_gradients_of_the_whole_bag(paper):
    patches, mask, _ = batch([23, 17])
    results = []
    for block in (1000, 4):
        module = branch(paper=paper, block=block)
        mined = module(patches, mask)
        (mined.tokens.square().sum() + mined.instance_logits.sum()).backward()
        results.append((mined, {name: p.grad for name, p in module.named_parameters()}))
    (whole, whole_gradients), (blocked, blocked_gradients) = results
    torch.testing.assert_close(blocked.tokens, whole.tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(blocked.mass, whole.mass, rtol=1e-5, atol=1e-6)
    assert torch.equal(blocked.critical, whole.critical)
    assert whole_gradients["query.first.weight"].abs().sum() > 0
    for name, gradient in whole_gradients.items():
        torch.testing.assert_close(blocked_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_blocks_store_views_of_the_bag_but_not_its_masses():
    """What the forward pass saves for the backward pass must not grow with N, except for the bag itself."""

    def saved(count):
        patches, mask, _ = batch([count])
        module, kept = branch(block=64), {}

        def pack(tensor):
            if tensor.untyped_storage().data_ptr() not in (patches.untyped_storage().data_ptr(), mask.data_ptr()):
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            mined = module(patches, mask)
            size = sum(kept.values())
        assert mined.tokens.requires_grad
        return size

    few, many = saved(1024), saved(4096)
    assert many - few < 0.25 * 3072 * 6 * 4  # a quarter of the masses (N, K = 6) of the further rows in float32


def test_critical_patches_come_in_descending_score_and_ties_fall_to_the_earlier():
    module = branch()
    patches, mask, _ = batch([30])
    patches[0, 20] = patches[0, 10]
    scores = module.instance(patches)[0].amax(-1).detach()
    mined = module(patches, mask)
    expected = sorted(range(30), key=lambda row: (-scores[row].item(), row))[:6]
    assert mined.critical[0].tolist() == expected
    torch.testing.assert_close(mined.scores[0], scores[expected])
    torch.testing.assert_close(mined.instance_logits[0], module.instance(patches)[0].amax(0))


@pytest.mark.parametrize("levels", [3, 10**6])  # many ties, and none among the highest
@pytest.mark.parametrize("patches", [4, 7, 200])  # fewer than the requested number, as many, and more
def test_the_highest_scores_are_the_first_of_a_stable_sort(patches, levels):
    """Oracle: numpy.argsort, kind stable, of the negative scores."""
    scores = np.random.default_rng(patches).integers(0, levels, (5, patches)).astype(np.float32)
    if levels == 3:
        scores[0, 2:] = -np.inf  # a bag with two patches, padded
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(_highest(torch.from_numpy(scores), 7), expected)


def test_the_order_of_the_patches_changes_nothing():
    module = branch()
    patches, mask, _ = batch([30])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    one, other = module(patches, mask), module(patches[:, order], mask)
    assert torch.equal(order[other.critical[0]], one.critical[0])
    torch.testing.assert_close(other.tokens, one.tokens, rtol=1e-5, atol=1e-6)


def test_each_patch_gives_one_unit_of_mass():
    patches, mask, _ = batch([30, 3, 1])
    mined = branch()(patches, mask)
    torch.testing.assert_close(mined.mass.sum(1), torch.tensor([30.0, 3.0, 1.0]))
    assert (mined.mass[1, 3:] == 0).all()
    assert mined.critical[2].tolist() == [0, -1, -1, -1, -1, -1]


@pytest.mark.parametrize("same", [torch.zeros(FEATURES), torch.ones(FEATURES), torch.full((FEATURES,), 1e18)])
def test_identical_patches_even_zeros_give_finite_tokens_and_gradients(same):
    module = branch()
    mined = module(same.expand(1, 9, -1).clone(), torch.ones(1, 9, dtype=torch.bool))
    mined.tokens.sum().backward()
    assert torch.isfinite(mined.tokens).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_the_survival_task_reaches_the_instance_classifier_only_through_the_gate():
    for gate in (True, False):
        module = branch(soft_instance_gate=gate)
        mined = module(*batch([20])[:2])
        mined.tokens.square().sum().backward()
        reached = module.instance.weight.grad is not None and bool(module.instance.weight.grad.any())
        assert reached == gate


def test_critical_share_keeps_the_fewest_patches_with_this_share_of_the_scores():
    module = branch(critical_share=0.5)
    patches, mask, _ = batch([30])
    scores = module.instance(patches)[0].amax(-1).softmax(0).sort(descending=True).values
    fewest = int((scores.cumsum(0) < 0.5).sum()) + 1
    assert int(module(patches, mask).present.sum()) == min(fewest, 6)


def test_gradients_of_the_branch_are_those_of_finite_differences():
    # Without the gate, whose mean and deviation over the bag are constants for the gradient by design.
    module = branch(block=3, soft_instance_gate=False, features=4, width=4, critical=3).double()
    patches, mask, _ = batch([5, 2], features=4)
    patches = patches.double().requires_grad_()

    def run(rows):
        mined = module(rows, mask)
        return mined.tokens, mined.instance_logits

    assert torch.autograd.gradcheck(run, (patches,))
