"""Deterministic random choices of training: drawn patches, order of the batches, the inner validation part.

Every choice is a function of (seed, epoch, patient). It does not depend on the order of calls, on a worker or on a
process, so a resumed, a parallel and an uninterrupted run read the same data.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag


def seeded_generator(*key: int | str) -> torch.Generator:
    """A random generator that is a function of `key` alone, the same on every machine and in every process."""
    key_digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key_digest, "little") >> 1)


def draw_patches(bag: Tensor, cap: int, key: tuple[int | str, ...]) -> Tensor:
    """At most `cap` rows of (N, D), drawn without replacement by `key`, in the order of the bag."""
    if len(bag) <= cap:
        return bag
    rows = torch.randperm(len(bag), generator=seeded_generator("bag", *key))[:cap]
    return bag[rows.sort().values]


def batch_order(lengths: Sequence[int], batch: int, key: tuple[int | str, ...]) -> list[list[int]]:
    """Positions of the patients in the batches of one epoch; each patient once.

    The patients are shuffled, then sorted by class of length inside windows of four batches, which keeps the padding
    small. Inside a class (a factor of 1.4) the shuffled order stays, so that the batches differ from epoch to epoch.
    Then the batches are shuffled. A last batch of one patient is merged with the one before it: a loss that compares
    patients needs at least two.
    """
    random = seeded_generator("order", *key)
    shuffled = torch.randperm(len(lengths), generator=random).tolist()
    window = 4 * batch
    by_length: list[int] = []
    for start in range(0, len(shuffled), window):
        by_length += sorted(
            shuffled[start : start + window], key=lambda patient: round(2 * math.log2(lengths[patient]))
        )
    batches = [by_length[start : start + batch] for start in range(0, len(by_length), batch)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        single = batches.pop()
        batches[-1] += single
    return [batches[position] for position in torch.randperm(len(batches), generator=random).tolist()]


def hold_out(
    bags: Sequence[PatientBag], share: float, key: tuple[int | str, ...]
) -> tuple[list[PatientBag], list[PatientBag]]:
    """`bags` without a random share of the patients with and of those without an event, and that share.

    Each of the two groups gives at least one patient where it has two or more. Both parts keep the order of `bags`.
    """
    random, held_out = seeded_generator("hold out", *key), set()
    for event in (False, True):
        group = [position for position, bag in enumerate(bags) if bag.event is event]
        count = max(round(share * len(group)), min(1, len(group) // 2))
        held_out |= {group[number] for number in torch.randperm(len(group), generator=random)[:count].tolist()}
    kept = [bag for position, bag in enumerate(bags) if position not in held_out]
    return kept, [bags[position] for position in sorted(held_out)]
