"""Several patients of one network: one pass of the U-Net for all of them, the rest one patient at a time.

The U-Net consists of about 600 small operations, and their start takes longer than the arithmetic of one patient. Its
tokens have the same number for every patient, so that no patient is padded, and each of its operations computes the
rows of a patient in the same order as for that patient alone: the bits are those of the network on one patient
(tests/model/test_patient_batches.py). Other parts do not have this property: a bag has its own size, and in short
vectors (a row of hazards) the position of a number decides between vector and scalar instructions.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mcti.model.comparators import Comparator
from mcti.model.network import MCTI, Prediction, Start

_NUMBERS = 2**17
"""Numbers of the joint tokens in one pass. More would leave the cache of a core; a large network is not faster with
several patients, and holding its tokens would need much memory."""
_LARGEST = 1e6
"""Of a token. With larger ones a coupling could fail for all patients of the pass."""

Begun = Start | Prediction
"""A patient before the U-Net, or the prediction of a patient who is computed alone."""


def begin(net: MCTI | Comparator, inputs: Mapping[str, Tensor]) -> Begun:
    """The part of the forward pass of one patient before the U-Net; inputs: arguments of the forward pass.

    The prediction itself where the patient cannot share a pass: a comparator, a large network, absent tokens.
    """
    if not isinstance(net, MCTI):
        return _predicted(net, inputs)
    start = net.begin(**inputs)
    tokens = start.tokens
    if tokens.mask is None and _together(net, start) > 1 and float(tokens.values.abs().amax()) < _LARGEST:
        return start
    return net.finish(start, *net.unet(*net.streams(tokens)))


def finish(net: MCTI | Comparator, begun: Sequence[Begun]) -> list[Prediction]:
    """The predictions of patients that `begin` has begun, in their order."""
    results = {row: one for row, one in enumerate(begun) if isinstance(one, Prediction)}
    waiting = [(row, one) for row, one in enumerate(begun) if isinstance(one, Start)]
    while waiting:
        assert isinstance(net, MCTI)
        count = _together(net, waiting[0][1])
        part, waiting = waiting[:count], waiting[count:]
        results |= zip((row for row, _ in part), _finished(net, [start for _, start in part]), strict=True)
    return [results[row] for row in range(len(begun))]


def _finished(net: MCTI, starts: Sequence[Start]) -> list[Prediction]:
    x, streams, _ = zip(*(net.streams(start.tokens) for start in starts), strict=True)
    # A member's patients are adjacent, as mcti/model/members.py requires.
    joined, norms = net.unet(*(torch.stack(values, 2).flatten(1, 2) for values in (x, streams)), None)

    def of(values: Tensor, number: int) -> Tensor:
        """The rows of a patient, in the memory layout of a pass with this patient alone."""
        by_patient = values.reshape(len(values), -1, len(starts), *values.shape[2:])
        return by_patient[:, :, number].contiguous()

    return [
        net.finish(start, of(joined, number), {name: of(norm, number) for name, norm in norms.items()})
        for number, start in enumerate(starts)
    ]


def _predicted(net: Comparator, inputs: Mapping[str, Tensor]) -> Prediction:
    prediction: Prediction = net(**inputs)
    return prediction


def _together(net: MCTI, start: Start) -> int:
    """Number of such patients in one pass."""
    rows, tokens, width = start.tokens.values.shape
    return max(1, _NUMBERS // (rows * (tokens + net.config.task_tokens) * width))
