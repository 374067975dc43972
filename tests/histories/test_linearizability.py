"""The checker against all orders of small histories, and cases from the definition."""

import itertools
import math
import random

import pytest

from tests.histories.linearizability import Operation, is_linearizable


def op(action, invoked, returned, value, expected=None):
    return Operation(action, invoked, returned, value, expected)


def by_all_orders(operations, initial):
    """The definition: some subset with all certain operations, in some order that no time contradicts."""
    uncertain = [o for o in operations if not o.is_certain]
    certain = [o for o in operations if o.is_certain]
    subsets = itertools.chain.from_iterable(itertools.combinations(uncertain, n) for n in range(len(uncertain) + 1))
    return any(_explains(order, initial) for subset in subsets for order in itertools.permutations([*certain, *subset]))


def _explains(order, initial):
    for first, second in itertools.combinations(order, 2):
        if second.returned < first.invoked:
            return False
    state = initial
    for operation in order:
        if not operation.follows(state):
            return False
        state = state if operation.action == "read" else operation.value
    return True


def random_history(draw):
    operations = []
    for _ in range(draw.randint(1, 6)):
        start = draw.randint(0, 8)
        end = math.inf if draw.random() < 0.2 else start + draw.randint(0, 5)
        action = draw.choice(["read", "read", "write", "cas"])
        if action == "read" and end == math.inf:
            continue
        operations.append(op(action, start, end, draw.randint(0, 2), draw.randint(0, 2)))
    return operations


def test_it_agrees_with_all_orders_on_random_small_histories():
    draw = random.Random(7)
    results = []
    for _ in range(1500):
        history = random_history(draw)
        results.append(is_linearizable(history, 0))
        assert results[-1] == by_all_orders(history, 0), history
    assert 300 < sum(results) < 1200, "both results are frequent"


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([op("write", 0, 1, 1), op("read", 2, 3, 1)], True),
        ([op("write", 0, 1, 1), op("read", 2, 3, 0)], False),  # stale read
        ([op("write", 0, 5, 1), op("read", 2, 3, 0), op("read", 4, 4.5, 1)], True),
        ([op("write", 0, 5, 1), op("read", 2, 3, 1), op("read", 4, 4.5, 0)], False),  # goes back
        ([op("cas", 0, 3, 1, 0), op("cas", 1, 4, 2, 0)], False),  # both found 0: a lost update
        ([op("cas", 0, 3, 1, 0), op("cas", 1, 4, 2, 1)], True),
        ([op("write", 0, math.inf, 1), op("read", 5, 6, 0), op("read", 7, 8, 1)], True),  # took effect late
        ([op("write", 0, math.inf, 1), op("read", 5, 6, 0)], True),  # or never
        ([op("write", 0, math.inf, 1), op("read", 5, 6, 1), op("read", 7, 8, 0)], False),
        ([], True),
    ],
)
def test_cases_by_definition(operations, expected):
    assert is_linearizable(operations, 0) is expected


def test_a_long_history_of_many_clients_is_checked():
    draw = random.Random(3)
    operations, state = [], 0
    for number in range(400):
        operations.append(op("cas", number, number + 0.5, number + 1, state))
        state = number + 1
        operations += [op("read", number + draw.uniform(0, 0.9), number + 2, state) for _ in range(2)]
    assert is_linearizable(operations, 0)
    operations.append(op("read", 399.8, 400, 200))
    assert not is_linearizable(operations, 0)
