"""Merge two settings files; the keys of the second replace those of the first.

Run: python -m infra.rehearse.settings FIRST SECOND > MERGED
"""

import sys
from pathlib import Path
from typing import Any

import yaml


def merge(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`tree` with `changes`: mappings are merged key by key, any other value is replaced."""
    merged = dict(tree)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def merge_files(first: Path, second: Path, **more: Any) -> str:
    """The merged settings of two files as YAML; `more` is merged last."""
    trees = [yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in (first, second)]
    tree = merge(merge(*trees), more)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


if __name__ == "__main__":
    sys.stdout.write(merge_files(Path(sys.argv[1]), Path(sys.argv[2])))
