"""A rule: its name, why it exists, the source of its claim, and the function that finds violations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mcti.params import ClusterParams
from mcti.pipelines.checks.document import Document

Finder = Callable[[Document, ClusterParams], Iterator[str]]


@dataclass(frozen=True)
class Rule:
    """One condition that a compiled file must satisfy so that a cluster can run it.

    name    stable id, printed with every violation
    reason  what happens on a cluster where the condition is violated
    source  version of the program that behaves in this way, and the evidence
    find    yields one line per violation: where, what, how to fix
    """

    name: str
    reason: str
    source: str
    find: Finder
