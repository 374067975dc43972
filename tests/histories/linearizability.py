"""Whether a history of one register with read, write and compare-and-set is linearizable.

Each operation takes effect at one instant between its invocation and its return. The search orders the operations that
may be first, in depth, and stores every pair of (operations done, value) that led nowhere (Wing and Gong 1993,
J. Parallel Distrib. Comput. 17:164-182; the memory of Lowe 2017, Concurr. Comput. 29:e3928).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

Value = Hashable


@dataclass(frozen=True)
class Operation:
    """One operation on the register. Times in seconds of one clock.

    returned  infinity: the caller never learned the result; the operation may take effect at any later time, or never
    read      returned `value`
    write     set `value`
    cas       found `expected` and set `value`
    """

    action: Literal["read", "write", "cas"]
    invoked: float
    returned: float
    value: Value
    expected: Value = None
    label: str = ""

    @property
    def is_certain(self) -> bool:
        """Whether it took effect."""
        return self.returned < math.inf

    def follows(self, state: Value) -> bool:
        """Whether it can take effect while the register has the value `state`."""
        required = {"read": self.value, "cas": self.expected}
        return self.action not in required or state == required[self.action]


def is_linearizable(operations: Sequence[Operation], initial: Value) -> bool:
    """Whether some order of the operations, consistent with their times, explains every result."""
    return _Search(operations).explains(initial)


class _Search:
    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = sorted(operations, key=lambda operation: operation.invoked)
        self._certain = sum(1 << n for n, operation in enumerate(self._operations) if operation.is_certain)

    def explains(self, initial: Value) -> bool:
        """Depth first, without recursion: a history may be longer than Python's stack."""
        visited = {(0, initial)}
        pending = [(0, initial)]
        while pending:
            done, state = pending.pop()
            if done & self._certain == self._certain:
                return True
            for number in self._first(done):
                operation = self._operations[number]
                if operation.follows(state):
                    successor = (done | 1 << number, state if operation.action == "read" else operation.value)
                    if successor not in visited:
                        visited.add(successor)
                        pending.append(successor)
        return False

    def _first(self, done: int) -> list[int]:
        """The operations that no operation left to do precedes: they were invoked before each of these returned."""
        left = [n for n in range(len(self._operations)) if not done >> n & 1]
        end = min((self._operations[n].returned for n in left), default=math.inf)
        # In reverse: the last one is tried first, and the earliest is the most likely.
        return [n for n in reversed(left) if self._operations[n].invoked <= end]
