"""Several patients in one pass of the U-Net: every output has the bits of the network on one patient."""

import dataclasses

import pytest
import torch

from mcti.model import patient_batches
from mcti.model.members import stack
from mcti.model.network import Prediction
from mcti.model.trained import single_thread
from tests.model.cases import batch
from tests.model.test_members import CONFIGS, members

SIZES = (20, 3, 31, 20, 17)
"""Patches of each patient; one has fewer than the networks have critical patches."""


def patients(of, count):
    """Inputs of `count` members for each patient."""
    for number, size in enumerate(SIZES):
        patches, mask, genes = batch([size], seed=number)
        flags = {"covariates": torch.tensor([[0.1 * number, 1.0]])} if of.covariates else {}
        if of.missing:
            flags = {"slides_present": torch.tensor([number != 2]), "genes_present": torch.tensor([number != 3])}
        inputs = {"patches": patches, "mask": mask, "genes": genes, **flags}
        yield {name: value.repeat_interleave(count, 0) for name, value in inputs.items()}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
@single_thread()
@torch.no_grad()
def test_each_patient_has_the_bits_of_the_network_alone(name, count):
    nets = members(CONFIGS[name], count)
    net = nets[0] if count == 1 else stack(nets)
    inputs, passes = list(patients(CONFIGS[name], count)), []
    alone = [net(**one) for one in inputs]
    net.unet.register_forward_hook(lambda _, values, __: passes.append(values[0].shape[1] // count))
    together = patient_batches.finish(net, [patient_batches.begin(net, one) for one in inputs])
    assert sum(passes) == len(SIZES)
    assert max(passes) > 2  # the patients without absent tokens share a pass
    for one, other in zip(together, alone, strict=True):
        for field in dataclasses.fields(Prediction):
            actual, expected = getattr(one, field.name), getattr(other, field.name)
            assert_same_bits(actual, expected)


def assert_same_bits(actual, expected):
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        assert all(torch.equal(actual[name], expected[name]) for name in expected)
    else:
        assert (actual is None and expected is None) or torch.equal(actual, expected)


@torch.no_grad()
def test_a_large_network_computes_one_patient_at_a_time(monkeypatch):
    net, (first, *_) = members(CONFIGS["tiny"], 1)[0], patients(CONFIGS["tiny"], 1)
    assert not isinstance(patient_batches.begin(net, first), Prediction)
    monkeypatch.setattr(patient_batches, "_NUMBERS", 100)
    assert isinstance(patient_batches.begin(net, first), Prediction)


@torch.no_grad()
def test_huge_tokens_do_not_share_a_pass():
    net, (first, *_) = members(CONFIGS["tiny"], 1)[0], patients(CONFIGS["tiny"], 1)
    assert isinstance(patient_batches.begin(net, first | {"genes": first["genes"] * 1e12}), Prediction)
