import torch

from mcti.model.genomics import DenseGenes, GroupedGenes
from tests.model.cases import GENES, config, small_paper


def grouped(seed=0):
    torch.manual_seed(seed)
    return GroupedGenes(config()).double().eval()


def genes(count=3):
    return torch.randn(count, len(GENES), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_groups_are_attention_over_explicit_gene_tokens():
    """Oracle: the gene tokens built one by one and read by softmax attention, as the docstring defines them."""
    module, values = grouped(), genes(1)
    keys = module.names + values[0][:, None] * module.levels  # (G, w)
    contents = values[0][:, None] * module.contents
    width = keys.shape[1]
    weights = (module.queries @ keys.T / width**0.5).softmax(-1)
    read = weights @ contents * (len(GENES) / width) ** 0.5
    tokens, groups = module(values)
    torch.testing.assert_close(groups[0], weights)
    torch.testing.assert_close(tokens[0], module.out(read + module.groups))


def test_group_weights_are_shares_of_the_genes():
    groups = grouped()(genes())[1]
    assert groups.shape == (3, 2, len(GENES))
    assert (groups >= 0).all()
    torch.testing.assert_close(groups.sum(-1), torch.ones(3, 2, dtype=torch.float64))


def test_genes_permuted_with_their_names_change_nothing():
    module, values = grouped(), genes()
    order = torch.randperm(len(GENES), generator=torch.Generator().manual_seed(2))
    before, groups = module(values)
    with torch.no_grad():
        for table in (module.names, module.levels, module.contents):
            table.copy_(table[order])
    after, moved = module(values[:, order])
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(moved, groups[..., order])


def test_gradients_of_both_branches_are_those_of_finite_differences():
    torch.manual_seed(0)
    for module in (grouped(), DenseGenes(small_paper()).double().eval()):
        assert torch.autograd.gradcheck(lambda values, module=module: module(values)[0], (genes(2).requires_grad_(),))


def test_the_dense_branch_has_the_parameters_counted_by_hand():
    """G·h + h, h² + h, h·T·D + T·D with G = 9, h = 10, T = 2, D = 8."""
    count = sum(parameter.numel() for parameter in DenseGenes(small_paper()).parameters())
    assert count == (9 * 10 + 10) + (10 * 10 + 10) + (10 * 16 + 16)


def test_under_autocast_the_dense_branch_keeps_the_digits_of_its_float32_weights():
    branch, values = DenseGenes(small_paper()).eval(), genes(3).float()
    expected = branch(values)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(branch(values)[0], expected)
        halved = branch.bfloat16()(values)[0]
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved.float(), expected, rtol=0.05, atol=0.05)
