"""Merge settings: the keys of a second file over those of a first.

Run: python -m infra.rehearse.settings FIRST SECOND > MERGED
"""

import sys
from pathlib import Path
from typing import Any

import yaml


def over(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`tree` with `changes`: mappings are merged key by key, any other value is replaced."""
    merged = dict(tree)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = over(merged[key], value) if both else value
    return merged


def merged(first: Path, second: Path, **more: Any) -> str:
    """The settings of two files as the text of one; `more` is merged last."""
    trees = [yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in (first, second)]
    tree = over(over(*trees), more)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


if __name__ == "__main__":
    sys.stdout.write(merged(Path(sys.argv[1]), Path(sys.argv[2])))
