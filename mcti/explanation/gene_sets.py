"""Gene sets of a GMT file, and whether a group of genes contains more genes of a set than expected by chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcti import storage
from mcti.errors import DataError
from mcti.storage import Location

MIN_GENES = 3
"""A set with fewer genes of the model carries no information and only costs power."""


@dataclass(frozen=True)
class Enrichment:
    """One gene set in one group.

    overlap      number of the `group_genes` genes of the group that are in the set
    set_genes    number of genes of the set among the `universe` genes of the model
    expected     overlap expected by chance
    p, q         of an equal or larger overlap; q is p after Benjamini-Hochberg correction
    """

    gene_set: str
    overlap: int
    set_genes: int
    group_genes: int
    universe: int
    expected: float
    p: float
    q: float
    genes: tuple[str, ...]


def read_gmt(location: Location, universe: Sequence[str]) -> dict[str, frozenset[str]]:
    """{name: genes} of a GMT file (name, description, genes, separated by tabs), restricted to the genes of the model.

    Raises
        DataError when the file is not text or empty, a line has fewer than three fields, or a name occurs twice
        DataError when no set has three genes of the model
    """
    known, sets = set(universe), {}
    for number, line in enumerate(_lines(location), start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = [gene for gene in rest[1:] if gene]
        where = f"{location}, line {number}"
        if not name or not genes:
            raise DataError("the line is not a gene set", where, "write name, description and genes, separated by tabs")
        if name in sets:
            raise DataError(f"gene set {name!r} occurs twice", where, "give each set a different name")
        sets[name] = frozenset(genes) & known
    if not sets:
        raise DataError(
            "the file is empty", str(location), "write gene sets: name, description, genes, separated by tabs"
        )
    usable = {name: genes for name, genes in sets.items() if len(genes) >= MIN_GENES}
    if not usable:
        what = f"none of {len(sets)} gene sets has {MIN_GENES} of the model's {len(known)} genes"
        hint = f"name the genes as the expression table does, e.g. {universe[0]}"
        raise DataError(what, str(location), hint)
    return usable


def over_represented(
    groups: Sequence[Sequence[str]], sets: Mapping[str, frozenset[str]], universe: int
) -> list[list[Enrichment]]:
    """Over-representation of each gene set in each group, sorted by p.

    p is the probability of an overlap of k or more among n genes drawn from `universe` genes, K of which are in the
    set: the upper tail of the hypergeometric distribution (Fisher's exact test, one-sided). One correction (Benjamini
    and Hochberg 1995, JRSS B 57:289-300) covers all groups and sets.

    Trap: the universe is the genes of the model, not the genome, because a panel of cancer genes contains many genes of
    cancer sets by design.

    groups: the genes of each group;  sets {name: genes of the model};  universe: number of genes of the model
    """
    from scipy.stats import false_discovery_control, hypergeom

    counts = [[len(genes & set(group)) for genes in sets.values()] for group in groups]
    tails = [
        [
            float(hypergeom.sf(k - 1, universe, len(genes), len(group)))
            for k, genes in zip(row, sets.values(), strict=True)
        ]
        for row, group in zip(counts, groups, strict=True)
    ]
    adjusted = false_discovery_control(np.clip(np.array(tails), 0.0, 1.0), axis=None).reshape(len(groups), -1)
    by_group = []
    for row, group in enumerate(groups):
        entries = [
            Enrichment(
                gene_set=name,
                overlap=counts[row][column],
                set_genes=len(genes),
                group_genes=len(group),
                universe=universe,
                expected=len(group) * len(genes) / universe,
                p=tails[row][column],
                q=float(adjusted[row, column]),
                genes=tuple(sorted(genes & set(group))),
            )
            for column, (name, genes) in enumerate(sets.items())
        ]
        by_group.append(sorted(entries, key=lambda entry: (entry.p, entry.gene_set)))
    return by_group


def _lines(location: Location) -> list[str]:
    try:
        return storage.read_bytes(location).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError("the file is not text", str(location), "save the GMT file as UTF-8") from error
