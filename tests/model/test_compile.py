"""The network under torch.compile: traced with stated breaks (docs/model.md), with the same numbers and prediction.

Backend aot_eager traces forward and backward passes and runs them with torch's own kernels, so no compiler is needed.
"""

import pytest
import torch

from tests.model.cases import batch, config, network


@pytest.mark.slow
def test_the_compiled_network_gives_the_numbers_and_gradients_of_the_plain_one():
    net, inputs = network(config(gene_axes=4, feature_axes=5)).eval(), batch([9, 3])
    answers = []
    for run in (net, torch.compile(net, backend="aot_eager")):
        net.zero_grad()
        prediction = run(*inputs)
        (prediction.risk.sum() + prediction.subtype_logits.sum() + prediction.instance_logits.sum()).backward()
        answers.append(
            (prediction.hazard_logits.detach(), {name: p.grad.clone() for name, p in net.named_parameters()})
        )
    (plain, slopes), (compiled, others) = answers
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-6)
    for name, slope in slopes.items():
        torch.testing.assert_close(others[name], slope, rtol=1e-4, atol=1e-6, msg=name)
