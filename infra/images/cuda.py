"""Which packages of CUDA or ROCm a requirement of pip brings: infra/images/cuda.py [pip's options] torch==2.13.0

Exit code 1 when there are any, their names on standard output; 2 when pip cannot resolve it, with pip's own words. The
names come from pip's report of what it would install, so the packages are not fetched.
"""

import json
import re
import subprocess
import sys
from typing import Any

_REPORT = ("install", "--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed", "--no-cache-dir")
_REPORT += ("--only-binary", ":all:", "--report", "-")
_LIBRARIES = re.compile(r"(nvidia|cuda|triton|pytorch-triton|rocm|amd)(-|$)")
_BUILD = re.compile(r"\+(cu|rocm|xpu)\d*")


def accelerator_packages(report: dict[str, Any]) -> list[str]:
    """Names and versions of the packages for graphics cards in the report of `pip install --report`, sorted."""
    parts = [item["metadata"] for item in report["install"]]
    packages = [(part["name"].lower().replace("_", "-"), part["version"]) for part in parts]
    return sorted(
        f"{name}=={version}" for name, version in packages if _LIBRARIES.match(name) or _BUILD.search(version)
    )


def main(words: list[str]) -> int:
    """Print them on one line."""
    done = subprocess.run([sys.executable, "-m", "pip", *_REPORT, *words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return 2
    packages = accelerator_packages(json.loads(done.stdout))
    if packages:
        shown = ", ".join(packages[:3]) + (f" and {len(packages) - 3} more" if len(packages) > 3 else "")
        print(shown)  # noqa: T201  (the output of a program)
    return int(bool(packages))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
