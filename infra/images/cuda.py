"""Which packages of CUDA or ROCm a resolution of pip holds; exit code 1 when there is one.

    pip install --quiet --dry-run --ignore-installed --report - torch==2.13.0 | python3 infra/images/cuda.py

The names come from pip's report, so nothing has to be fetched first.
"""

import json
import re
import sys
from typing import Any

_LIBRARIES = re.compile(r"(nvidia|cuda|triton|pytorch-triton|rocm|amd)(-|$)")
_BUILD = re.compile(r"\+(cu|rocm|xpu)\d*")


def accelerator_packages(report: dict[str, Any]) -> list[str]:
    """Names and versions of the packages for graphics cards in the report of `pip install --report`, sorted."""
    packages = [(item["metadata"]["name"].lower(), item["metadata"]["version"]) for item in report["install"]]
    return sorted(
        f"{name}=={version}" for name, version in packages if _LIBRARIES.match(name) or _BUILD.search(version)
    )


def main() -> int:
    """Print them on one line."""
    found = accelerator_packages(json.load(sys.stdin))
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        print(shown)  # noqa: T201  (the answer of a program)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
