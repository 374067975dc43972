"""Principal axes before the first layer, against scikit-learn's whitened principal components."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mcti.model.attribution import attribute
from mcti.model.axes import Axes, config_after_axes
from mcti.model.comparators import build
from mcti.model.network import MCTI
from mcti.model.presets import preset
from mcti.model.trained import Fitted, Scale, TrainedModel


def config(name="tiny", **changes):
    inputs = {"features": 7, "genes": [f"g{i}" for i in range(9)], "classes": ["a", "b"], "bins": 4}
    return preset(name, **inputs, **({"gene_axes": 4, "feature_axes": 3} | changes))


def standard(rows, columns, seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 3)) @ random.normal(size=(3, columns)) + random.normal(size=(rows, columns))
    return torch.from_numpy((values - values.mean(0)) / values.std(0))


@pytest.mark.parametrize("patients", [50, 8])  # more than genes, and fewer
def test_axes_are_the_whitened_principal_components_of_another_library(patients):
    axes, genes, bag = Axes(config()).double(), standard(patients, 9, 0), standard(40, 7, 1)
    axes.fit_genes(genes)
    axes.fit_features([bag])
    fitted = axes(bag[None], genes)
    for ours, table, count in ((fitted[1], genes, 4), (fitted[0][0], bag, 3)):
        other = PCA(count, svd_solver="full").fit_transform(table.numpy())
        other /= other.std(0)
        agree = np.abs((ours.numpy() * other).mean(0))  # the sign is free
        assert agree == pytest.approx(np.ones(count), abs=1e-9)
        assert ours.var(0, correction=0).numpy() == pytest.approx(np.ones(count))


def test_a_patient_of_many_patches_weighs_as_one_of_few():
    axes, one, other = Axes(config()).double(), standard(40, 7, 1), standard(30, 7, 2)
    axes.fit_features([one, other])
    before = axes.features.clone()
    axes.fit_features([one.repeat(5, 1), other])
    assert torch.allclose(axes.features, before)


def test_a_constant_direction_has_no_axis():
    axes = Axes(config()).double()
    axes.fit_genes(torch.cat([standard(20, 2, 3), torch.zeros(20, 7)], 1).double())
    assert axes.genes[2:].abs().max() == 0
    assert bool(axes.genes.isfinite().all())
    axes.fit_features([torch.zeros(1, 7)])
    assert axes.features.abs().max() == 0


def test_fewer_patients_than_axes_leave_the_last_axes_silent():
    axes, genes = Axes(config()).double(), standard(3, 9, 5)
    axes.fit_genes(genes)
    assert axes(torch.zeros(1, 1, 7, dtype=torch.float64), genes)[1].var(0, correction=0).tolist() == pytest.approx(
        [1, 1, 0, 0]
    )
    assert axes.genes[2:].abs().max() == 0


def test_weights_of_axes_are_shared_among_the_genes():
    axes = Axes(config()).double()
    axes.fit_genes(standard(50, 9, 0))
    groups = torch.rand(2, 3, 4, dtype=torch.float64).softmax(-1)
    by_gene = axes.by_gene(groups)
    assert by_gene.shape == (2, 3, 9)
    assert torch.allclose(by_gene.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    pure = axes.by_gene(torch.eye(4, dtype=torch.float64)[None])[0, 1]  # a group that is one axis
    assert torch.allclose(pure, (axes.genes[1] / axes.genes[1].norm()).square())


def test_without_axes_nothing_changes_and_nothing_is_stored():
    net = MCTI(config(gene_axes=0, feature_axes=0))
    assert not [name for name in net.state_dict() if name.startswith("axes")]
    patches, genes = torch.randn(1, 5, 7), torch.randn(1, 9)
    assert net.axes(patches, genes) == (patches, genes)


def test_more_axes_than_columns_are_all_the_columns():
    projected = config_after_axes(config(gene_axes=100, feature_axes=100))
    assert (len(projected.genes), projected.features) == (9, 7)


@pytest.mark.parametrize("name", ["tiny", "snn", "abmil", "transmil", "late_fusion", "mcat", "motcat", "mean_pool"])
def test_every_network_reads_along_the_axes(name):
    """A direction orthogonal to all axes has no influence; one along an axis has."""
    torch.manual_seed(0)
    net = config(name)
    net = build(net).eval()
    net.axes.fit_genes(standard(50, 9, 0))
    net.axes.fit_features([standard(40, 7, 1)])
    patches, mask, genes = torch.randn(1, 6, 7), torch.ones(1, 6, dtype=torch.bool), torch.randn(1, 9)
    across = torch.linalg.svd(net.axes.genes)[2][-1] * 5
    with torch.no_grad():
        before = net(patches, mask, genes).risk
        assert torch.allclose(net(patches, mask, genes + across).risk, before, atol=1e-5)
        if name not in ("abmil", "transmil", "mean_pool"):
            assert not torch.allclose(net(patches, mask, genes + 5 * net.axes.genes[0]).risk, before, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "snn", "late_fusion"])
def test_inputs_of_another_number_type_are_read_as_the_network_computes(name):
    """Integer, half and double inputs, as from NumPy and files; the axes are never rounded to integers."""
    torch.manual_seed(0)
    net = build(config(name, covariates=["age"])).eval()
    net.axes.fit_genes(standard(50, 9, 0))
    net.axes.fit_features([standard(40, 7, 1)])
    patches, genes, age = (torch.randint(-3, 4, shape).float() for shape in ((1, 6, 7), (1, 9), (1, 1)))
    mask = torch.ones(1, 6, dtype=torch.bool)
    with torch.no_grad():
        plain = net(patches, mask, genes, covariates=age)
        for dtype in (torch.int64, torch.float16, torch.float64):
            fitted = net(patches.to(dtype), mask, genes.to(dtype), covariates=age.to(dtype))
            assert fitted.hazard_logits.dtype == torch.float32
            torch.testing.assert_close(fitted.hazard_logits, plain.hazard_logits)


def test_under_autocast_the_axes_keep_their_digits():
    """bf16 would round them to eight bits, but the order of the scores determines the critical patches."""
    axes = Axes(config())
    axes.fit_genes(standard(50, 9, 0))
    axes.fit_features([standard(40, 7, 1)])
    patches, genes = torch.randn(1, 6, 7), torch.randn(1, 9)
    with torch.autocast("cpu", torch.bfloat16):
        half = axes(patches, genes)
    assert all(torch.equal(one, other) for one, other in zip(half, axes(patches, genes), strict=True))


def test_gene_attributions_are_reported_per_gene_and_sum_to_the_risk():
    torch.manual_seed(0)
    shape = config()
    net = MCTI(shape)
    net.axes.fit_genes(standard(50, 9, 0))
    net.axes.fit_features([standard(40, 7, 1)])
    plain = {"genes": Scale(torch.zeros(9), torch.ones(9)), "features": Scale(torch.zeros(7), torch.ones(7))}
    model = TrainedModel(net, shape, Fitted(**plain, edges=(0.0, 1.0, 2.0, 3.0, 4.0)))
    attribution = attribute(model, torch.randn(5, 7), torch.randn(9), steps=128)
    assert attribution.genes.shape == (9,)
    assert attribution.groups.shape == (2, 9)
    assert float(attribution.genes.abs().sum()) > 0
    assert abs(attribution.gap) < 1e-3 * abs(attribution.risk - attribution.baseline) + 1e-6
