"""The software bill of materials: every package of this environment in CycloneDX 1.5 JSON (ECMA-424)."""

import re
from importlib import metadata
from typing import Any

_SHORT = 80
"""Some packages put the whole text of their licence where its name belongs."""


def build() -> dict[str, Any]:
    """name, version, purl and licence of every installed distribution, sorted; no serial number and no time in it:
    the same environment gives the same document.
    """
    found = {_name(package): package for package in metadata.distributions() if package.metadata["Name"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _component("mcti", found["mcti"])} if "mcti" in found else {},
        "components": [_component(name, package) for name, package in sorted(found.items()) if name != "mcti"],
    }


def _component(name: str, package: metadata.Distribution) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{package.version}"
    told = package.metadata
    stated = {"expression": told["License-Expression"]} if "License-Expression" in told else _named(package)
    known = {"licenses": [stated]} if stated else {}
    return {"type": "library", "name": name, "version": package.version, "purl": purl, "bom-ref": purl, **known}


def licence(component: dict[str, Any]) -> str:
    """What a component of the document says of its licence; empty where the package is silent."""
    stated = component.get("licenses", [{}])[0]
    return str(stated.get("expression") or stated.get("license", {}).get("name", ""))


def _named(package: metadata.Distribution) -> dict[str, Any]:
    """The licence of a package without an SPDX expression: its licence field, or its classifiers."""
    told = package.metadata
    first = str(told["License"]).strip().splitlines() if "License" in told else []
    name = first[0].strip() if first else ""
    if 0 < len(name) <= _SHORT and name.upper() != "UNKNOWN" and not name.startswith("Copyright"):
        return {"license": {"name": name}}
    classes = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License ::")]
    name = ", ".join(word for word in classes if word != "OSI Approved")
    return {"license": {"name": name}} if name else {}


def _name(package: metadata.Distribution) -> str:
    return re.sub(r"[-_.]+", "-", str(package.metadata["Name"])).lower()
