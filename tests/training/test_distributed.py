import os
import subprocess
import sys

import pandas as pd
import pytest

from mcti.steps.train import train
from mcti.training.distributed import Ranks, ranks
from tests.training import factories

# Preset compact has dropout; Cox's likelihood compares patients of both processes.
CASES = {"tiny": {}, "compact": {"preset": "compact", "survival_loss": "cox"}}
SCRIPT = f"""
import sys
from pathlib import Path
from mcti.steps.train import train
from tests.training import factories
root = Path(sys.argv[1])
for name, changes in {CASES!r}.items():
    settings = factories.settings(workers=1, **changes)
    train(root / "cohort", root / "features", root / "folds.csv", settings, root / f"both {{name}}", fold=0)
"""


def test_shares_are_disjoint_and_whole():
    shares = [Ranks(rank, 3).share(list(range(8))) for rank in range(3)]
    assert sorted(patient for share in shares for patient in share) == list(range(8))


def test_a_process_of_its_own_is_the_first_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks() == Ranks(0, 1)
    assert Ranks().any(True)
    assert not Ranks().any(False)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    """torchrun with gloo; tolerance for float32 sums in another order: 1e-5."""
    world = factories.folders(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *arguments, str(tmp_path / "script.py"), str(tmp_path)]
    subprocess.run(command, check=True, env=environment, timeout=600)
    for case, changes in CASES.items():
        train(*world, factories.settings(workers=1, **changes), tmp_path / f"one {case}", fold=0)
        for name in ("predictions.csv", "history.csv"):
            one, both = (pd.read_csv(tmp_path / f"{side} {case}" / "fold_0" / name) for side in ("one", "both"))
            pd.testing.assert_frame_equal(one, both, rtol=1e-5, atol=1e-5)
