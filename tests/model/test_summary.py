"""Oracle: torch.utils.flop_counter counts the products as they run; parameters are counted from the layer sizes."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mcti.model.summary import describe
from tests.model.cases import batch, config, network, small_paper


@pytest.mark.parametrize(
    "shape",
    [
        config(),
        small_paper(),
        config("compact", gene_axes=5, feature_axes=4),
        config(linear_skip=False),
        config("no_guidance"),
    ],
)
def test_the_arithmetic_is_that_of_the_forward_pass(shape):
    patches, mask, genes = batch([50])
    # The fused attention kernel of the CPU is not counted; its plain form is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(shape).eval()(patches, mask, genes)
    counted = {key.removeprefix("MCTI."): sum(value.values()) for key, value in counter.get_flop_counts().items()}
    reported = describe(shape, 50).forward_flops
    carried = 2 * shape.critical * shape.tokens * shape.width  # counted under the network, not its genomic branch
    assert reported["pathology"] == counted["pathology"]
    assert reported["unet"] == counted["unet"]
    assert reported["genomics"] - carried == counted["genomics"]
    assert reported["heads"] == counted["survival_head"] + counted["subtype_head"]


def test_the_axes_cost_no_backward_pass():
    """They are fitted before training and precede every learned layer; in a long bag they dominate the forward pass."""
    shape = config("compact", gene_axes=5, feature_axes=4)
    patches, mask, genes = batch([200])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        counted = network(shape)(patches, mask, genes)
        (counted.risk.sum() + counted.subtype_logits.sum() + counted.instance_logits.sum()).backward()
    along, reported = 2 * (200 * 12 * 4 + 9 * 5), describe(shape, 200)
    assert reported.forward_flops["axes"] == along
    assert reported.training_flops == 3 * (sum(reported.forward_flops.values()) - along) + along
    assert reported.training_flops == pytest.approx(counter.get_total_flops(), rel=0.06)  # the bag needs no gradient


def test_the_papers_parameters_are_those_of_the_key_list_less_the_dead():
    """470,231,369 used parameters minus two mixes of 3 parameters in each of two decoder stages (docs/model.md)."""
    shape = config("paper", features=1024, genes=tuple(str(number) for number in range(1558)))
    counted = describe(shape)
    assert sum(counted.parameters.values()) == 470_231_369 - 12
    assert counted.parameters["unet.encoder"] == 151_162_898
    assert counted.parameters["genomics"] == 79_888_384 + 8192**2 + 8192


def test_the_cost_of_a_step_of_the_paper_is_that_measured_on_the_reference():
    """Known: 1,324 GFLOP a patient at N = 4,000, forward and backward; the formula of mcti is within 3 %."""
    shape = config("paper", features=1024, genes=tuple(str(number) for number in range(1558)))
    assert describe(shape, 4000).training_flops == pytest.approx(1.324e12, rel=0.03)


def test_the_memory_is_of_the_size_that_is_measured():
    """Oracle: bytes that autograd saves in a real pass, each storage once; tolerance: half of it."""
    shape = config("compact")
    net = network(shape)
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prediction = net(*batch([500]))
    assert prediction.risk.requires_grad
    reported = describe(shape, 500).memory_bytes["activations"]
    assert reported / 2 < sum(kept.values()) < reported * 2


def test_the_parameters_of_compact_are_those_counted_by_hand():
    """D = 32, K = 16, T = R = 8, query 32, gene width 32; D_in = 12, G = 9, C = 2, B = 4.

    A Linear of width 32 has 1,056 (1,024 without bias), one of two streams twice as many.
    """
    square, plain, two = 1056, 1024, 2 * 1056
    instance, query, project = 12 * 2 + 2, (12 * 32 + 32) + square, (12 * 32 + 32) + 3 * square
    channels = 3 * plain + 16 * 16 + 1 + square + 2 * plain
    guided = 128 + 6 * plain + 2 + two + 2 * two + 128 + 2 * two  # norm, q k v, scale, out, local, norm, MLP
    attended = 64 + 3 * plain + square + 64 + 2 * square  # of one stream
    skip = 12 + 8 * 32 + 16  # mean patch, gene tokens and 16 products, for each logit
    pairs = 16 * (12 + 8 * 32)  # the directions whose products they are
    assert describe(config("compact")).parameters == {
        "task_tokens": 3 * 8 * 32,
        "pathology": instance + query + 1 + project + square + channels,  # 1: the inverse_temperature
        "genomics": 8 * 32 + 3 * 9 * 32 + 8 * 32 + 2 * square,
        "unet.encoder": 2 * attended + guided + 3,
        "unet.bottleneck": guided + 3,
        "unet.decoder": attended + guided + 6,
        "subtype_head": 64 + (32 * 2 + 2) + 2 * skip + pairs,
        "survival_head": 64 + (32 * 4 + 4) + 4 * skip + pairs,
    }
