"""Gene sets of a GMT file, and whether a group of genes holds more of one than chance would give it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcti import storage
from mcti.errors import DataError
from mcti.storage import Location

SMALLEST = 3
"""Sets with fewer genes among the model's say nothing and only cost power."""


@dataclass(frozen=True)
class Enrichment:
    """One gene set in one group.

    overlap of `group_genes` chosen genes lie in the set, which holds `set_genes` of the model's `universe`;
    expected  overlap by chance; p of a larger or equal overlap; q the same after Benjamini and Hochberg
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
    """The sets of a GMT file (name, description, genes; tabs between), cut to the genes of the model.

    Raises
        DataError: no text, no line, a line of fewer than three fields, a name twice, or no set with three genes of the
            model.
    """
    known, sets = set(universe), {}
    for number, line in enumerate(_lines(location), start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = [gene for gene in rest[1:] if gene]
        where = f"{location}, line {number}"
        if not name or not genes:
            raise DataError("no gene set", where, "write name, description and genes, with tabs between them")
        if name in sets:
            raise DataError(f"gene set {name!r} comes twice", where, "give each set a name of its own")
        sets[name] = frozenset(genes) & known
    if not sets:
        raise DataError("the file is empty", str(location), "give gene sets: name, description, genes, tabs between")
    usable = {name: genes for name, genes in sets.items() if len(genes) >= SMALLEST}
    if not usable:
        what = f"none of {len(sets)} gene sets has {SMALLEST} of the model's {len(known)} genes"
        hint = f"name the genes as the expression table does, e.g. {universe[0]}"
        raise DataError(what, str(location), hint)
    return usable


def over_represented(
    groups: Sequence[Sequence[str]], sets: Mapping[str, frozenset[str]], universe: int
) -> list[list[Enrichment]]:
    """Each gene set in each group, by p.

    The chance of an overlap of k or more among n genes drawn from `universe`, K of which are in the set: the upper
    tail of the hypergeometric distribution (Fisher's exact test, one-sided). One correction (Benjamini and Hochberg
    1995, JRSS B 57:289-300) over all groups and sets together. The universe is the model's genes, not the genome: a
    panel of cancer genes is rich in cancer sets to begin with.

    groups: the chosen genes of each group; sets: genes of the model only.
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
    found = []
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
        found.append(sorted(entries, key=lambda entry: (entry.p, entry.gene_set)))
    return found


def _lines(location: Location) -> list[str]:
    try:
        return storage.read_bytes(location).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError("no text", str(location), "give a GMT file in UTF-8") from error
