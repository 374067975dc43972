"""Building blocks of the release dossier: its source, sections, tables, and the text of table cells."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti.registry.ledger import LedgerEntry
from mcti.registry.ledger_anchors import AnchorStore


class DossierSource(BaseModel):
    """The data of a version in the registry.

    card, metrics, evaluation  card.json, metrics.json and result.json of the version's run
    examples                   contributions for example patients, one {column: value} each
    tags                       of the version
    anchors, anchor_faults     the store of the anchors of the ledger (None: not configured), and what contradicts them
    """

    model_config = ConfigDict(frozen=True)
    version: int
    alias: str
    card: dict[str, Any]
    metrics: dict[str, Any]
    evaluation: dict[str, Any] = {}
    sbom: dict[str, Any]
    entries: tuple[LedgerEntry, ...]
    figures: tuple[str, ...] = ()
    examples: tuple[dict[str, str], ...] = ()
    tags: dict[str, str] = {}
    anchors: AnchorStore | None = None
    anchor_faults: tuple[str, ...] = ()


class Table(BaseModel):
    """Rows of text; without headers: two columns of names and values."""

    model_config = ConfigDict(frozen=True)
    title: str = ""
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...]


class Section(BaseModel):
    """One section. figures: names of SVG files; gaps: information that a person must add."""

    model_config = ConfigDict(frozen=True)
    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


def pairs(values: Mapping[str, Any], title: str = "") -> Table:
    """A table of names and values."""
    return Table(title=title, rows=tuple((str(name), cell(value)) for name, value in values.items()))


def cell(value: Any) -> str:
    """The text of a value; mappings and lists become comma-separated texts."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(cell(inner) for inner in value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def interval(numbers: Mapping[str, Any]) -> tuple[str, str, str]:
    """Value and ends of an interval as three cells."""
    value, low, high = (number(numbers.get(name)) for name in ("value", "low", "high"))
    return value, low, high


def number(value: float | None) -> str:
    """A scalar as text with three decimals, or `not defined`."""
    return "not defined" if value is None else f"{value:.3f}"
