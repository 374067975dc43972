"""Reads the OME-XML of a TIFF: the Pixels element of each directory, and the pixel size.

Schema: OME 2016-06, Pixels and TiffData. Attributes have no namespace, elements may carry any prefix for it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

# Schema's UnitsLength in µm; "pixel" and "reference frame" are no lengths. U+03BC and U+212B are in use as look-alikes.
_UNITS = {"pm": 1e-6, "Å": 1e-4, "\u212b": 1e-4, "nm": 1e-3, "µm": 1.0, "\u03bcm": 1.0, "um": 1.0, "mm": 1e3}
_UNITS |= {"cm": 1e4, "dm": 1e5, "m": 1e6, "thou": 25.4, "in": 25_400.0}
_ROOT = re.compile(r"<(?:[\w.-]+:)?OME[\s>/]")


@dataclass(frozen=True)
class Pixels:
    """One Pixels element. size in px; mpp: µm/px in x and y; ifds: its directories of the main chain, None: all."""

    size: tuple[int, int]
    mpp: tuple[float, float] | None
    ifds: frozenset[int] | None

    def holds(self, ifd: int) -> bool:
        """Whether a directory of the main chain is one of its planes."""
        return self.ifds is None or ifd in self.ifds


def is_ome(description: str) -> bool:
    """Whether an ImageDescription is OME-XML."""
    return _ROOT.search(description[:16_384]) is not None


@lru_cache(maxsize=16)
def pixels(description: str) -> list[Pixels]:
    """All Pixels elements; empty when the document does not parse, or its metadata are in another file."""
    from defusedxml import DefusedXmlException, ElementTree

    try:
        root = ElementTree.fromstring(description)
    except (ElementTree.ParseError, DefusedXmlException, ValueError):
        return []
    elements = [element for element in root.iter() if _name(element) == "Pixels"]
    return [_parse(element, str(root.get("UUID", "")), only_one=len(elements) == 1) for element in elements]


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _parse(element: Any, uuid: str, *, only_one: bool) -> Pixels:
    across, down = (_length(element, axis) for axis in "XY")
    mpp = None if across is None or down is None else (across, down)
    size = (_integer(element.get("SizeX")), _integer(element.get("SizeY")))
    tables = [child for child in element if _name(child) == "TiffData"]
    ifds = frozenset(ifd for table in tables if _is_this_file(table, uuid) for ifd in _planes(table, element))
    return Pixels(size, mpp, None if only_one and not tables else ifds)


def _is_this_file(table: Any, uuid: str) -> bool:
    """Whether a TiffData element refers to this file; one that refers to another file states that file's UUID."""
    names = [str(child.text or "").strip() for child in table if _name(child) == "UUID"]
    return not names or not uuid or names[0] == uuid


def _planes(table: Any, element: Any) -> Iterator[int]:
    """Directories of a TiffData element. Schema: IFD 0 by default; one plane with IFD, else all planes of Pixels."""
    first = _integer(table.get("IFD"))
    count = table.get("PlaneCount")
    if count is None and table.get("IFD") is None:
        channels = [child for child in element if _name(child) == "Channel"]
        samples = max((_integer(channel.get("SamplesPerPixel"), 1) for channel in channels), default=1)
        planes = _integer(element.get("SizeC"), 1) // max(samples, 1)
        count = max(planes, 1) * _integer(element.get("SizeZ"), 1) * _integer(element.get("SizeT"), 1)
    return iter(range(first, first + min(_integer(count, 1), 1 << 16)))


def _integer(text: Any, default: int = 0) -> int:
    try:
        return int(text) if text is not None else default
    except ValueError:
        return default


def _length(element: Any, axis: str) -> float | None:
    """PhysicalSize of an axis in µm; None when there is none, or its unit is no length."""
    factor = _UNITS.get(str(element.get(f"PhysicalSize{axis}Unit", "µm")).strip())
    try:
        value = float(element.get(f"PhysicalSize{axis}", "nan"))
    except ValueError:
        return None
    return value * factor if factor is not None and isfinite(value) and value > 0 else None
