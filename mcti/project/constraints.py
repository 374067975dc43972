"""The tested versions of all packages, for `pip install --constraint`. Run: python -m mcti.project.constraints."""

from importlib import resources


def constraints() -> str:
    """One line `name==version [; marker]` per package of requirements.lock.

    With hashes pip would demand one for every package, also for PyTorch, whose build depends on the machine.
    """
    lock = resources.files("mcti.project").joinpath("files", "requirements.lock").read_text(encoding="utf-8")
    pins = [line.removesuffix("\\").rstrip() for line in lock.splitlines() if line[:1].isalnum()]
    return "\n".join(["# Tested versions: pip install --constraint constraints.txt …", *pins]) + "\n"


if __name__ == "__main__":
    print(constraints(), end="")  # noqa: T201
