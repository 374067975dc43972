"""Amounts of CPU and memory as Kubernetes writes them."""

import re

_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def amount(text: str) -> float:
    """A quantity of Kubernetes as a number: cores of CPU, bytes of memory.

    >>> amount("500m"), amount("16Gi")
    (0.5, 17179869184.0)

    Raises
        ValueError: `text` is no such quantity.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity: write cores as 4 or 500m, memory as 16Gi")
    return float(match[1]) * _UNITS[match[2]]
