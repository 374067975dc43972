"""Gradients of every module of the package against finite differences, in float64: by its inputs and by its weights.

Oracle: torch.autograd.gradcheck. The couplings of the guided attention are exact assignments, which are constant around
almost every point.
"""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call

import mcti.model
from mcti.model import network
from mcti.model.axes import Axes
from mcti.model.clinical import ClinicalToken
from mcti.model.cohort_networks import CohortNetworks
from mcti.model.comparators import ABMIL, MCAT, SNN, Comparator, LateFusion, MeanPool, MOTCat, TransMIL
from mcti.model.comparators.base import AbsentInputs
from mcti.model.comparators.genes import GeneSets
from mcti.model.comparators.pooling import GatedAttention
from mcti.model.comparators.transmil import Pyramid
from mcti.model.cox_branch import CoxBranch
from mcti.model.dropout import AlphaDropout, Dropout
from mcti.model.genomics import DenseGenes, GroupedGenes
from mcti.model.guidance import GuidedAttention, GuidedBlock, GuidedStack
from mcti.model.heads import Head, Pairing, Skip
from mcti.model.pathology import PatchAttention, PathologyBranch, PathologyOutput, QueryNet
from mcti.model.streams import AttentionLayer, Mix, SelfAttention, StreamLinear, StreamMLP, StreamNorm
from mcti.model.unet import Bottleneck, DecoderStage, EncoderStage, TaskUNet
from tests.model.cases import config

FEATURES, WIDTH, GENES = 4, 4, ("A", "B", "C")
# By design constants for the gradient: mean and deviation of a bag's scores (so no gate here), the patch-gene plan
# (under a huge entropy it does not move) and the mean patch (the whole network is checked without the linear path).
# The whole network has one gene token: the even plan would make several alike, and which of equals an assignment takes
# is a matter of rounding.
SIZES = {"features": FEATURES, "genes": GENES, "width": WIDTH, "query": 3, "critical": 3, "tokens": 2, "task_tokens": 2,
         "gene_width": 3, "block": 3, "soft_instance_gate": False, "gene_entropy": 1e9,
         "covariates": ("age",)}  # fmt: skip
WITHOUT_SKIP = SIZES | {"tokens": 1, "linear_skip": False}
TINY = config(**SIZES)
HERE = torch.tensor([[True] * 3, [True, True, False]])  # (b, n): the second patient lacks a token
BAG = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
FLAGS = {"slides_present": torch.tensor([True, False]), "genes_present": torch.tensor([False, True])}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def streams(count, seed=0):
    return draw(count, 2, 3, WIDTH, seed=seed)


def mined():
    tokens, rows = draw(2, 3, WIDTH), draw(2, 3, FEATURES)
    scores, logits, mass, best = draw(2, 3), draw(2, 3, 2), draw(2, 3), draw(2, 2)
    means = draw(2, FEATURES), draw(2, FEATURES, seed=1)
    return PathologyOutput(tokens, HERE, HERE.long(), scores, logits, mass, best, *means, rows, tokens)


def headed(module, mean, average, focus, genes, covariates):
    return module(mean, dataclasses.replace(mined(), average=average, focus=focus), genes, covariates)


def stand_in(module, tokens, genes):
    """AbsentTokens changes a PathologyOutput in place, so each call needs a new one."""
    checked = mined()
    checked.tokens = tokens
    changed, gene_tokens = module(checked, genes, FLAGS["slides_present"], FLAGS["genes_present"])
    return changed.tokens, gene_tokens


def branch(module, rows):
    checked = module(rows, BAG)
    return checked.tokens, checked.instance_logits


def whole(module, rows, genes, covariates):
    """Both modalities absent once: every part of the network has its share."""
    checked = module(rows, BAG, genes, covariates=covariates, **FLAGS)
    return checked.hazard_logits, checked.subtype_logits, checked.survival


def masked(module, *inputs):
    return module(*inputs, HERE)


def guided(module, x, guides):
    return module(x, guides, HERE, None)


def staged(module, *inputs):
    return module(*inputs, HERE, None)


def straight(module, *inputs):
    return module(*inputs)


def first(module, *inputs):
    return module(*inputs)[0]


def absent_inputs(module, rows, genes):
    filled, _, genes = module(rows, BAG, genes, **FLAGS)
    return filled, genes


def weighted_cox_branch():
    branch = CoxBranch(TINY)
    branch.cox_weight.fill_(0.3)
    return branch


PAST = (draw(2, FEATURES, seed=1), draw(2, FEATURES, seed=4), draw(2, 2, WIDTH, seed=2), draw(2, 2, seed=3))
"""Inputs of the head that bypass the U-Net: mean patch, focus, gene tokens, covariates."""
WHOLE = (draw(2, 4, FEATURES), draw(2, 3, seed=1), draw(2, 1, seed=2))
COHORTS = {"first": ("a", "b"), "second": ("a", "b", "c")}
COMPARATOR = config("mcat", features=FEATURES, genes=GENES, width=WIDTH, critical=3, tokens=2, gene_width=3,
              missing=True,
              heads=2, covariates=("age",), dropout=0.0, gene_dropout=0.0, gene_entropy=1e9,
              subtype_task=True)  # fmt: skip
CASES = {
    StreamLinear: (lambda: StreamLinear(2, WIDTH, 3), straight, (streams(2),)),
    StreamNorm: (lambda: StreamNorm(2, WIDTH), straight, (streams(2),)),
    StreamMLP: (lambda: StreamMLP(2, WIDTH), straight, (streams(2),)),
    AttentionLayer: (lambda: AttentionLayer(2, TINY), masked, (streams(2),)),
    SelfAttention: (lambda: SelfAttention(1, 1, TINY), masked, (streams(1),)),
    Mix: (lambda: Mix(2, average_init=False), straight, (streams(2),)),
    GuidedAttention: (lambda: GuidedAttention(2, TINY), guided, (streams(2), streams(2, 1))),
    GuidedBlock: (lambda: GuidedBlock(2, TINY), guided, (streams(2), streams(2, 1))),
    GuidedStack: (lambda: GuidedStack(1, 2, TINY), guided, (streams(1), streams(1, 1))),
    EncoderStage: (lambda: EncoderStage(1, TINY), staged, (streams(1), streams(2, 1))),
    Bottleneck: (lambda: Bottleneck(1, TINY), staged, (streams(1), streams(2, 1))),
    DecoderStage: (lambda: DecoderStage(1, TINY, last=False), staged, (streams(1), streams(1, 1), streams(2, 2))),
    TaskUNet: (lambda: TaskUNet(TINY), lambda net, *inputs: net(*inputs, HERE)[0], (streams(1), streams(2, 1))),
    PathologyBranch: (lambda: PathologyBranch(TINY), branch, (draw(2, 4, FEATURES),)),
    QueryNet: (lambda: QueryNet(FEATURES, 3), straight, (draw(2, FEATURES),)),
    PatchAttention: (lambda: PatchAttention(WIDTH, 3), masked, (draw(2, 3, WIDTH),)),
    DenseGenes: (lambda: DenseGenes(TINY), first, (draw(2, 3),)),
    GroupedGenes: (lambda: GroupedGenes(TINY), straight, (draw(2, 3),)),
    CoxBranch: (weighted_cox_branch, lambda net, x: net(x, x[:, 0]), (draw(2, 4),)),
    Axes: (lambda: Axes(config(**SIZES, gene_axes=2, feature_axes=2)), lambda net, *inputs: net(*inputs),
           (draw(2, 4, FEATURES), draw(2, 3))),
    ClinicalToken: (lambda: ClinicalToken(TINY), straight, (draw(2, 1),)),
    Head: (lambda: Head(TINY, 3), headed, (draw(2, WIDTH), *PAST)),
    Skip: (lambda: Skip(TINY, 3), straight, PAST),
    Pairing: (lambda: Pairing(FEATURES, WIDTH, 2, 3), straight, (draw(2, FEATURES), draw(2, WIDTH))),
    network.AbsentTokens: (lambda: network.AbsentTokens(TINY), stand_in, (draw(2, 3, WIDTH), draw(2, 2, WIDTH))),
    network.MCTI: (lambda: network.MCTI(config(**WITHOUT_SKIP, missing=True)), whole, WHOLE),
    Dropout: (lambda: Dropout(0.4), straight, (draw(3, 4),)),
    AlphaDropout: (lambda: AlphaDropout(0.4), straight, (draw(3, 4),)),
    GatedAttention: (lambda: GatedAttention(WIDTH), lambda net, x: net(x, HERE), (draw(2, 3, WIDTH),)),
    GeneSets: (lambda: GeneSets(COMPARATOR), straight, (draw(2, 3),)),
    Pyramid: (lambda: Pyramid(WIDTH), lambda net, x: net(x, BAG), (draw(2, 4, WIDTH),)),
    AbsentInputs: (lambda: AbsentInputs(COMPARATOR), absent_inputs, (draw(2, 4, FEATURES), draw(2, 3))),
    **{peer: (lambda peer=peer: peer(COMPARATOR), whole, WHOLE)
       for peer in (ABMIL, LateFusion, MCAT, MeanPool, MOTCat, SNN, TransMIL)},
}  # fmt: skip


def test_every_module_of_the_package_has_a_case():
    checked = set()
    for info in pkgutil.walk_packages(mcti.model.__path__, "mcti.model."):
        module = importlib.import_module(info.name)
        classes = inspect.getmembers(module, inspect.isclass)
        modules = {module_class for _, module_class in classes if issubclass(module_class, nn.Module)}
        if info.name != "mcti.model.members":  # evaluation only: their weights have no gradient
            checked |= {module_class for module_class in modules if module_class.__module__ == info.name}
    assert checked - {Comparator, CohortNetworks} == set(CASES)  # the second one is checked below


@pytest.mark.parametrize("module_class", CASES, ids=lambda module_class: module_class.__name__)
def test_gradients_by_inputs_and_weights_are_those_of_finite_differences(module_class):
    make, run, inputs = CASES[module_class]
    torch.manual_seed(0)
    module = make().double().train(module_class in (Dropout, AlphaDropout))
    weights = dict(module.named_parameters())
    for weight in weights.values():
        nn.init.normal_(weight, std=0.5)
    names = list(weights)

    def output(*leaves):
        torch.manual_seed(1)  # the same mask at every call, for the modules that draw one
        values = dict(zip(names, leaves[len(inputs) :], strict=True))
        return run(lambda *args, **named: functional_call(module, values, args, named), *leaves[: len(inputs)])

    leaves = [value.clone().requires_grad_() for value in (*inputs, *weights.values())]
    assert gradcheck(output, leaves, atol=1e-6, rtol=1e-4, fast_mode=True)  # along random directions


def test_gradients_of_the_networks_of_cohorts_are_those_of_networks_of_their_own():
    """A shared weight has the sum over the cohorts, a weight of one cohort the gradient of its network."""
    configs = {name: config(**WITHOUT_SKIP | {"classes": classes}) for name, classes in COHORTS.items()}
    nets = CohortNetworks(configs, {name: torch.full((4,), 0.2) for name in COHORTS}).double()
    for weight in nets.parameters():
        nn.init.normal_(weight, std=0.5)
    sum(total(nets(name, WHOLE[0], BAG, *WHOLE[1:2], covariates=WHOLE[2])) for name in COHORTS).backward()
    sums = {name: torch.zeros_like(tensor) for name, tensor in nets.shared_tensors().items()}
    for name, of_cohort in configs.items():
        net, tensors = network.MCTI(of_cohort).double(), nets.own_tensors(name)
        net.load_state_dict({**nets.shared_tensors(), **tensors})
        total(net(WHOLE[0], BAG, *WHOLE[1:2], covariates=WHOLE[2])).backward()
        for key, weight in net.named_parameters():
            if key in tensors:
                torch.testing.assert_close(gradient(tensors[key]), gradient(weight))
            else:
                sums[key] += gradient(weight)
    assert any(bool(one.any()) for one in sums.values())
    for key, weight in nets.shared.named_parameters():
        torch.testing.assert_close(gradient(weight), sums[key])


def gradient(weight):
    """0 where the backward pass did not reach the weight."""
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def total(prediction):
    """A scalar that depends on every output, other outputs with other weights."""
    outputs = (prediction.hazard_logits, prediction.subtype_logits)
    return sum((output * draw(*output.shape, seed=7)).sum() for output in outputs)
