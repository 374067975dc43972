"""The software bill of materials: every package of this environment in CycloneDX 1.5 JSON (ECMA-424)."""

import re
from importlib import metadata
from typing import Any

_SHORT = 80
"""Longest licence name in characters: some packages have the whole text of the licence in this field."""


def build() -> dict[str, Any]:
    """Name, version, purl and licence of every installed distribution, sorted by name.

    It has no serial number and no time: the same environment gives the same document.
    """
    # Each access to the metadata of a distribution parses its file, with the whole description of the package.
    every = [package.metadata for package in metadata.distributions()]
    packages = {_name(fields): fields for fields in every if fields["Name"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _component("mcti", packages["mcti"])} if "mcti" in packages else {},
        "components": [_component(name, packages[name]) for name in sorted(packages) if name != "mcti"],
    }


def _component(name: str, fields: metadata.PackageMetadata) -> dict[str, Any]:
    version = fields["Version"]
    purl = f"pkg:pypi/{name}@{version}"
    expression = {"expression": fields["License-Expression"]} if "License-Expression" in fields else None
    stated = expression or _licence_name(fields)
    licences = {"licenses": [stated]} if stated else {}
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl, **licences}


def licence(component: dict[str, Any]) -> str:
    """The licence of a component of the document; empty where the package states none."""
    stated = component.get("licenses", [{}])[0]
    return str(stated.get("expression") or stated.get("license", {}).get("name", ""))


def _licence_name(fields: metadata.PackageMetadata) -> dict[str, Any]:
    """The licence of a package without an SPDX expression: its licence field, or its classifiers."""
    first = str(fields["License"]).strip().splitlines() if "License" in fields else []
    name = first[0].strip() if first else ""
    if 0 < len(name) <= _SHORT and name.upper() != "UNKNOWN" and not name.startswith("Copyright"):
        return {"license": {"name": name}}
    classes = [
        line.rpartition(" :: ")[2] for line in fields.get_all("Classifier") or () if line.startswith("License ::")
    ]
    name = ", ".join(word for word in classes if word != "OSI Approved")
    return {"license": {"name": name}} if name else {}


def _name(fields: metadata.PackageMetadata) -> str:
    return re.sub(r"[-_.]+", "-", str(fields["Name"])).lower()
