import numpy as np
import torch
from torch import nn

from mcti.model.streams import Mix, SelfAttention, StreamLinear, StreamNorm
from tests.model import reference_numpy
from tests.model.cases import small_paper


def tokens(streams=2, count=2, length=6, width=8):
    shape = (streams, count, length, width)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def loud(module, seed=0):
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.double()


def test_a_stream_linear_is_one_linear_a_stream():
    """Oracle: torch.nn.Linear with the weights of each stream."""
    module, x = loud(StreamLinear(2, 8, 5)), tokens()
    for stream in range(2):
        expected = nn.functional.linear(x[stream], module.weight[stream], module.bias[stream])
        torch.testing.assert_close(module(x)[stream], expected)


def test_a_stream_norm_is_one_layer_norm_a_stream():
    module, x = loud(StreamNorm(2, 8)), tokens()
    for stream in range(2):
        expected = nn.functional.layer_norm(x[stream], (8,), module.weight[stream], module.bias[stream])
        torch.testing.assert_close(module(x)[stream], expected)


def test_a_mix_is_a_convolution_of_one_by_one():
    """Oracle: torch conv2d over the two streams as channels."""
    module, pair = loud(Mix(3, average_init=False)), tokens()
    channels = pair.transpose(0, 1)  # (b, 2, n, D)
    expected = nn.functional.conv2d(channels, module.weight[:, :, None, None], module.bias)
    torch.testing.assert_close(module(pair), expected.transpose(0, 1))


def test_a_mix_with_average_init_starts_as_the_average():
    pair = tokens()
    torch.testing.assert_close(Mix(1, average_init=True).double()(pair)[0], pair.mean(0))


def reference_state(module, stream):
    state = {}
    for number, layer in enumerate(module.layers):
        names = {"0.norm": layer.norm, "0.fn.proj": layer.out, "1.norm": layer.mlp_norm}
        names |= {"1.fn.net.0": layer.mlp.first, "1.fn.net.2": layer.mlp.second}
        for name, part in names.items():
            state[f"layers.{number}.{name}.weight"] = part.weight[stream].detach().numpy()
            state[f"layers.{number}.{name}.bias"] = part.bias[stream].detach().numpy()
        state[f"layers.{number}.0.fn.qkv.weight"] = layer.qkv.weight[stream].detach().numpy()
    return reference_numpy.Weights(state)


def test_self_attention_agrees_with_the_maths_page_written_out():
    """Oracle: tests/model/reference_numpy.py, section 5, NumPy float64, stream by stream and patient by patient."""
    module, x = loud(SelfAttention(2, 2, small_paper())), tokens()
    got = module(x, None).detach().numpy()
    for stream in range(2):
        weights = reference_state(module, stream)
        for patient in range(2):
            expected = reference_numpy.self_attention(weights, x[stream, patient].numpy())
            np.testing.assert_allclose(got[stream, patient], expected, rtol=1e-9)  # both in float64


def test_absent_tokens_have_no_influence_on_other_tokens():
    module, x = loud(SelfAttention(2, 2, small_paper())), tokens()
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    torch.testing.assert_close(module(x, mask)[:, :, :4], module(x[:, :, :4], None))


def test_two_heads_attend_each_in_its_half():
    """With queries and keys at zero every head is the mean of the values, whatever the number of heads."""
    for heads in (1, 2):
        module, x = loud(SelfAttention(1, 1, small_paper(heads=heads))), tokens(1)
        layer = module.layers[0]
        with torch.no_grad():
            layer.qkv.weight[:, :16] = 0
        qkv = layer.qkv(layer.norm(x))
        expected = qkv[..., 16:].mean(2, keepdim=True).expand(-1, -1, 6, -1)
        torch.testing.assert_close(layer.attend(qkv, None), expected)


def test_gradients_of_self_attention_are_those_of_finite_differences():
    module = loud(SelfAttention(1, 1, small_paper(width=4)))
    x = tokens(1, 2, 3, 4).requires_grad_()
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert torch.autograd.gradcheck(lambda values: module(values, mask)[:, 0], (x,))
