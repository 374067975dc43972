"""SIGKILL at random moments: the result of the resumed run equals the uninterrupted one to the last bit."""

import json
import subprocess
import sys

import pytest
import torch

from mcti.training import loop
from tests.training.test_loop import task, weights

CHANGES = {"epochs": 40, "checkpoint_seconds": 0.0}
BLOWS = 20

# One process that forks a victim after the other: the imports are paid once for all the kills. The victims start from
# whatever the one before left, and the last is let live.
SCRIPT = f"""
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from mcti.training import loop
from tests.training.test_loop import task, weights
torch.set_num_threads(1)
folder = Path(sys.argv[1])
chance, left = random.Random(0), []
def newest():
    return max((path.name for path in (folder / "work").glob("step*")), default="")
for blow in range({BLOWS} + 1):
    before, child = newest(), os.fork()
    if child == 0:
        outcome = loop.train(task(**{CHANGES!r}), checkpointing=loop.CheckpointConfig(folder / "work", {{}}))
        torch.save({{"weights": dict(weights(outcome)), "history": outcome.history}}, folder / "done.pt")
        os._exit(0)
    if blow < {BLOWS}:
        # Not before it got somewhere: on a busy machine a blow by the clock alone would never meet a step.
        while newest() == before and not (folder / "done.pt").exists():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        left.append(newest())
    os.waitpid(child, 0)
print(json.dumps(left))
"""


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    """Oracle: the same run in this process uninterrupted. The killed run writes a checkpoint after every step."""
    process = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    left = json.loads(process.stdout)
    assert len(set(left)) >= 10  # the kills met the run at different steps
    undisturbed = loop.train(task(**CHANGES))
    resumed = torch.load(tmp_path / "done.pt", weights_only=True)
    assert list(resumed["history"]) == list(undisturbed.history)
    for name, value in weights(undisturbed).items():
        assert torch.equal(resumed["weights"][name], value), name
