"""Claim: signing adds at most 0.5 s, and the verification of a version takes at most 2 s, in CPU seconds.

Signing and verification hash every file of the ensemble; the size of the weights is an option. The whole command
includes the start of Python. The key is a file on P-256.
With an address, also the command on that version in the registry that the environment names.
Run: python -m benchmarks.registry_signing --folds 5 --megabytes 20 [--address models:/NAME@ALIAS --keys trust.yaml]
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mcti.registry.trust import bundle, verification
from tests.registry.trust.factories import Version, public_pem, trusting

SIGNING_SECONDS, VERIFY_SECONDS = 0.5, 2.0


def cpu_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of this process, all threads."""
    values = []
    for _ in range(repeats):
        before = time.process_time()
        action()
        values.append(time.process_time() - before)
    return statistics.median(values)


def command_seconds(version: Version, repeats: int) -> float:
    """Median CPU seconds of `mcti verify --offline`, from the start of Python to its end."""
    pem = public_pem(version.key).decode()  # type: ignore[no-untyped-call]
    lines = "".join(f"    {line}\n" for line in pem.splitlines())
    trust, file = version.root / "trust.yaml", version.root / "version.tar"
    trust.write_text(f"keys:\n- id: site\n  roles: [model, lineage, gate]\n  public_key: |\n{lines}")
    bundle.write(version, file)
    return verify_seconds(["models:/lung-os@champion", "--offline", str(file)], trust, repeats)


def verify_seconds(arguments: Sequence[str], keys: Path, repeats: int) -> float:
    """Median CPU seconds of `mcti verify` with these arguments and the trust file `keys`."""
    command = [sys.executable, "-c", "from mcti.cli import main; main()", "verify", *arguments]
    command += ["--set", f"trust.keys={keys}"]

    def children() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    values = []
    for _ in range(repeats):
        before = children()
        subprocess.run(command, check=True, capture_output=True)
        values.append(children() - before)
    return statistics.median(values)


def main() -> int:
    """Print the figures and end with 1 if one exceeds its claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=20, help="weights of each fold")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--address", default="", help="a registered version, to verify in addition")
    parser.add_argument("--keys", type=Path, default=Path("trust.yaml"), help="trust file for --address")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mcti-signing-") as scratch:
        version = Version(Path(scratch), folds=options.folds, megabytes=options.megabytes)
        trust = trusting(version.key)  # type: ignore[no-untyped-call]

        def uncached() -> Version:
            return version.again()  # type: ignore[no-any-return, no-untyped-call]

        def signing() -> None:
            uncached().sign_all()  # type: ignore[no-untyped-call]

        figures = {
            "signing": (cpu_seconds(signing, options.repeats), SIGNING_SECONDS),
            "verification": (
                cpu_seconds(lambda: verification.check_all(uncached(), trust), options.repeats),
                VERIFY_SECONDS,
            ),
            "mcti verify --offline": (command_seconds(version, options.repeats), VERIFY_SECONDS),
        }
        if options.address:
            seconds = verify_seconds([options.address], options.keys, options.repeats)
            figures[f"mcti verify {options.address}"] = (seconds, VERIFY_SECONDS)
    print(f"{options.folds} folds of {options.megabytes} MB, of --address: those of the version")
    for name, (seconds, limit) in figures.items():
        print(f"{name}: {seconds:.2f} CPU seconds; claim: at most {limit}")
    return int(any(seconds > limit for seconds, limit in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
