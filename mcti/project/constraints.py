"""The tested versions of all packages, for `pip install --constraint`. Run: python -m mcti.project.constraints."""

from importlib import resources


def constraints() -> str:
    """One line `name==version [; marker]` per package of requirements.lock.

    With hashes pip would demand one for every package, also for PyTorch, whose build depends on the machine.
    """
    pins = resources.files("mcti.diagnosis").joinpath("locked.txt").read_text(encoding="utf-8")
    return "# Tested versions: pip install --constraint constraints.txt\n" + pins


if __name__ == "__main__":
    print(constraints(), end="")  # noqa: T201
