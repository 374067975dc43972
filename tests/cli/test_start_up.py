"""What short commands import: MLflow's client, torch and pandas take seconds before the first line."""

import json
import os
import subprocess
import sys

import pytest

from mcti.params import PromoteParams, RegisterParams
from tests.registry.factories import Run
from tests.registry.trust.factories import write_site

SLOW = ("mlflow", "torch", "pandas", "sklearn", "sksurv", "scipy", "matplotlib", "great_expectations", "optuna", "kfp")
NAME = "started"
COMMANDS = (  # in this order: the last one moves the aliases
    ("ledger", "show", "--name", NAME),
    ("ledger", "verify", "--name", NAME),
    ("lineage", f"models:/{NAME}@champion"),
    ("lineage", "kfp-run:none"),
    ("promote", "--name", NAME, "--version", "2", "--dry-run"),
    ("promote", "--name", NAME, "--repair", "--dry-run"),
    ("verify", f"models:/{NAME}@champion", "--set", "trust.keys=trust.yaml"),
    ("rollback", "--name", NAME),
)
CODE = """
import json, sys
from mcti.cli import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def imported(command, folder):
    """(exit code, output, names of the packages that the process had imported at its end)."""
    done = subprocess.run([sys.executable, "-c", CODE, *command], capture_output=True, text=True, cwd=folder)
    *_, last = done.stderr.splitlines()
    return done.returncode, done.stdout + done.stderr, json.loads(last)


@pytest.fixture(scope="module")
def registered(running, tmp_path_factory):
    """A model with two versions, both signed and promoted; the registry is in the stack. A folder with trust.yaml."""
    from pathlib import Path

    from mcti.local import settings
    from mcti.registry.trust import keys
    from mcti.steps.promote.step import promote
    from mcti.steps.register import register

    root, before = tmp_path_factory.mktemp("registered"), dict(os.environ)
    settings.activate(Path(running.folder).parent, force=True)
    os.environ[keys.KEY] = str(write_site(root)[0])
    lax = PromoteParams(min_events=2, bootstrap=100, margin=-1, alpha=0.4, ibs_margin=1, calibration_margin=1,
                        group_margin=1, max_latency_ratio=100, benchmark_patches=20)  # fmt: skip
    for seed in (0, 1):
        run = Run(root / str(seed), seed=seed, patients=40)
        register(
            run.models, run.evaluation, run.validation, RegisterParams(name=NAME, experiment=NAME), root / "r.json"
        )
        promote(NAME, lax)
    yield root
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_registry_imports_no_slow_library(registered, servers_of, command):
    code, output, names = imported(command, registered)
    assert code == 0, output
    assert {"boto3", "requests"} & set(names), "the command must have used the servers"
    assert [name for name in names if name in SLOW] == []


MODULES = (
    *(f"mcti.steps.{name}" for name in (
        "ingest", "validate", "split", "extract", "search.step", "train", "evaluate.step", "explain.step",
        "predict.step", "monitor", "register", "promote.step", "lineage", "retraining",
    )),
    "mcti.registry.run_outcome",
)  # fmt: skip
IMPORTS = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    found[name] = list(sys.modules)
print(json.dumps(found))
"""


def test_the_modules_of_the_steps_and_of_the_small_tasks_import_no_slow_library():
    """In one process, one after the other: the first module with a name is the one that imports it."""
    done = subprocess.run([sys.executable, "-c", IMPORTS, *MODULES], capture_output=True, text=True, check=True)
    slow = {*SLOW, "boto3", "numpy", "pyarrow"}
    slow_imports = {module: sorted(slow.intersection(names)) for module, names in json.loads(done.stdout).items()}
    assert slow_imports == {module: [] for module in MODULES}
