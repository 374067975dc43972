"""Installed packages against the requirements of mcti and against the versions with which it was tested."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata, resources

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcti.diagnosis.check import Check

LOCKED = "locked.txt"
"""The versions of requirements.lock, one `name==version ; marker` per line; `make lock` writes it into the package."""
_SHOWN = 6


def check_packages(extras: Iterable[str]) -> list[Check]:
    """Requirements of mcti with these extras that are unmet, and installed versions that differ from the lock."""
    return [_check_requirements(sorted(extras)), _check_lock(locked())]


def _check_requirements(extras: list[str]) -> Check:
    unmet = sorted(set(_unmet("mcti", frozenset(extras))))
    name = f"mcti[{','.join(extras)}]" if extras else "mcti"
    if not unmet:
        return Check(name="packages", state="OK", detail=f"every requirement of {name} is installed")
    hint = f"pip install '{name}=={metadata.version('mcti')}'"
    return Check(name="packages", state="missing", detail=_shown(unmet), hint=hint)


def _unmet(name: str, extras: frozenset[str], visited: set[tuple[str, frozenset[str]]] | None = None) -> list[str]:
    """Requirements of a package, and of those that it requires, that no installed version fulfils."""
    visited = set() if visited is None else visited
    if (name, extras) in visited:
        return []
    visited.add((name, extras))
    unmet: list[str] = []
    for requirement in _requirements(name, extras):
        installed = _installed().get(canonicalize_name(requirement.name))
        if installed is None:
            unmet.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(f"{requirement.name} is {installed}, {name} requires {requirement.specifier}")
        else:
            unmet += _unmet(canonicalize_name(requirement.name), frozenset(requirement.extras), visited)
    return unmet


def _requirements(name: str, extras: frozenset[str]) -> list[Requirement]:
    """The requirements that apply to this Python and platform."""
    stated = [Requirement(text) for text in metadata.requires(name) or ()]
    return [
        row for row in stated if row.marker is None or any(row.marker.evaluate({"extra": e}) for e in ("", *extras))
    ]


@cache
def _installed() -> Mapping[str, str]:
    """Canonical name -> version of every installed package."""
    return {
        canonicalize_name(package.metadata["Name"]): package.version
        for package in metadata.distributions()
        if package.metadata["Name"]
    }


def locked() -> dict[str, str]:
    """Name -> version of the lock, of the lines that apply to this Python and platform."""
    text = resources.files("mcti.diagnosis").joinpath(LOCKED).read_text(encoding="utf-8")
    rows = [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]
    applicable = [row for row in rows if row.marker is None or row.marker.evaluate()]
    return {canonicalize_name(row.name): re.sub("^==", "", str(row.specifier)) for row in applicable}


def _check_lock(versions: Mapping[str, str]) -> Check:
    """A version that differs from the lock fulfils every requirement, and is not the one that was tested."""
    compared = {name: _installed()[name] for name in versions if name in _installed()}
    other = [
        f"{name} {version} (lock: {versions[name]})" for name, version in compared.items() if version != versions[name]
    ]
    if not other:
        return Check(name="lock", state="OK", detail=f"{len(compared)} installed packages have the locked versions")
    hint = "install with the constraints file of this version of mcti to get the tested versions"
    return Check(name="lock", state="warning", detail=_shown(other), hint=hint)


def _shown(rows: list[str]) -> str:
    more = f"; and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return "; ".join(rows[:_SHOWN]) + more
