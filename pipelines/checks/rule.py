"""What a rule is: a name, why it exists, where it is known from, and the function that finds its violations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mcti.params import ClusterParams
from pipelines.checks.document import Document

Finder = Callable[[Document, ClusterParams], Iterator[str]]


@dataclass(frozen=True)
class Rule:
    """One thing that a compiled file must keep so that the back end runs it.

    name    stable id, printed with every violation
    reason  what happens on a cluster where it is broken
    source  version of the program in which this is known, and from where
    find    yields one line per violation: where, what, how to fix
    """

    name: str
    reason: str
    source: str
    find: Finder
