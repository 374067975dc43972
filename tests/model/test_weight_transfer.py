"""Copying of trained weights: genes by name, cohort-specific tensors and other encoders left out."""

import dataclasses

import pytest
import torch

from mcti.errors import DataError
from mcti.model.categories import Category
from mcti.model.comparators import build
from mcti.model.presets import preset
from mcti.model.weight_transfer import cohort_tensors, copy_weights, shared_genes

OLD, NEW = ("a", "b", "c", "d"), ("d", "x", "b")


def network(seed, genes=NEW, name="tiny", **changes):
    torch.manual_seed(seed)
    fields = {"features": 6, "classes": ("A", "B"), "bins": 4} | changes
    net = build(preset(name, genes=genes, **fields))
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape))
    return net


def copied(trained, net, **options):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    return before, copy_weights(net, trained.state_dict(), trained.config, **options)


def test_rows_of_genes_are_found_by_name_and_a_new_gene_keeps_its_first_weights():
    trained, net = network(1, OLD), network(2)
    before, names = copied(trained, net)
    after, source = net.state_dict(), trained.state_dict()
    for name in ("genomics.names", "genomics.levels", "genomics.contents"):
        assert name in names
        assert torch.equal(after[name][0], source[name][3])
        assert torch.equal(after[name][2], source[name][1])
        assert torch.equal(after[name][1], before[name][1])
    assert torch.equal(after["genomics.queries"], source["genomics.queries"])


def test_axes_keep_the_loadings_of_shared_genes_and_have_none_of_new_ones():
    trained = network(1, OLD, gene_axes=3)
    net = network(2, gene_axes=3)
    copied(trained, net)
    columns, source = net.state_dict()["axes.genes"], trained.state_dict()["axes.genes"]
    assert torch.equal(columns[:, 0], source[:, 3])
    assert torch.equal(columns[:, 2], source[:, 1])
    assert columns[:, 1].abs().max() == 0


def test_what_belongs_to_one_cohort_is_not_copied():
    trained, net = network(1, classes=("A", "B", "C")), network(2)
    before, names = copied(trained, net)
    of_cohort = cohort_tensors(net.config)
    assert "survival_head.out.bias" in of_cohort
    assert "pathology.instance.weight" in of_cohort
    assert not of_cohort & set(names)
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in of_cohort)
    assert "survival_head.out.weight" in names


@pytest.mark.parametrize("options", [{"slides": False}, {}])
def test_layers_that_read_slides_are_not_copied_from_another_encoder(options):
    width = {"features": 6} if options else {"features": 9}
    trained, net = network(1, **width), network(2)
    before, names = copied(trained, net, **options)
    for name, value in net.state_dict().items():
        if name.startswith("pathology.") or "linear_skip.slides" in name or "pairing" in name:
            assert torch.equal(value, before[name]), name
    assert {"genomics.queries", "task_tokens", "survival_head.out.weight"} <= set(names)


@pytest.mark.parametrize("name", ["late_fusion", "mcat", "snn", "abmil"])
def test_comparators_with_equal_inputs_are_copied_but_for_what_belongs_to_a_cohort(name):
    trained, net = network(1, name=name), network(2, name=name)
    _, names = copied(trained, net)
    assert set(names) == set(net.state_dict()) - cohort_tensors(net.config)
    assert all(torch.equal(net.state_dict()[one], trained.state_dict()[one]) for one in names)


def test_another_architecture_is_refused_with_the_field():
    with pytest.raises(DataError, match="width is 32 in the pretrained network and 16 in train"):
        copied(network(1, width=32), network(2))


def test_the_number_of_shared_genes():
    assert shared_genes(network(1, OLD).config, NEW) == 2


def test_a_network_with_learned_tokens_for_absent_inputs_fits_one_without():
    trained, net = network(1, missing=True), network(2)
    _, names = copied(trained, net)
    assert "task_tokens" in names
    assert dataclasses.replace(trained.config, missing=False) == net.config


def test_weights_of_the_covariates_are_copied_only_between_the_same_levels():
    def staged(seed, levels):
        category = Category(name="stage", levels=levels, ordered=True)
        config = dataclasses.replace(network(seed, covariates=("stage",)).config, categories=(category,))
        torch.manual_seed(seed)
        return build(config)

    same = copied(staged(1, ("I", "II", "III")), staged(2, ("I", "II", "III")))[1]
    other = copied(staged(1, ("I", "II", "III")), staged(2, ("I", "II", "IV")))[1]
    columns = {"clinical.embed.0.weight", "survival_head.linear_skip.clinical.weight"}
    assert columns <= set(same) - set(other)
    assert all("clinical" in name for name in set(same) - set(other))
