import errno
import resource
from pathlib import Path

import pytest
import torch

from mcti.errors import DataError, OperationalError
from mcti.training import checkpoints
from mcti.training.checkpoints import Checkpoint, CorruptCheckpoint

IDENTITY = {"fold": 1, "params": {"epochs": 3, "bins": {"count": 4}}, "digests": {"train": "a"}}


def made(step):
    values = {"history": [{"loss": 0.1 + 0.2}], "sums": {}}
    return Checkpoint(step, {"net.w": torch.full((2,), 1 / 3 + step)}, values, IDENTITY)


def test_a_checkpoint_is_restored_bit_for_bit(tmp_path):
    checkpoints.save(tmp_path, made(7))
    checkpoint = checkpoints.latest(tmp_path, IDENTITY)
    assert checkpoint.step == 7
    assert torch.equal(checkpoint.tensors["net.w"], made(7).tensors["net.w"])
    assert checkpoint.values == made(7).values


def test_the_newest_of_the_last_two_is_taken(tmp_path):
    for step in (1, 2, 30):
        checkpoints.save(tmp_path, made(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step_{step:09d}.checkpoint" for step in (2, 30)]
    assert checkpoints.latest(tmp_path, IDENTITY).step == 30


def test_no_checkpoint_is_no_error(tmp_path):
    assert checkpoints.latest(tmp_path / "never", IDENTITY) is None


@pytest.mark.parametrize("position", [0, 5, 40, 60, 200, -1])
def test_a_flipped_bit_is_detected_and_the_one_before_is_used_with_a_warning(tmp_path, position):
    checkpoints.save(tmp_path, made(1))
    path = checkpoints.save(tmp_path, made(2))
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    with pytest.warns(CorruptCheckpoint, match=r"step_000000002.checkpoint is corrupt"):
        assert checkpoints.latest(tmp_path, IDENTITY).step == 1


@pytest.mark.parametrize("length", [0, 10, 100])
def test_a_cut_file_is_noticed(tmp_path, length):
    path = checkpoints.save(tmp_path, made(2))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(CorruptCheckpoint):
        assert checkpoints.latest(tmp_path, IDENTITY) is None


def test_when_no_checkpoint_can_be_read_the_last_warning_states_that_the_run_starts_again(tmp_path):
    for step in (1, 2):
        checkpoints.save(tmp_path, made(step)).write_bytes(b"")
    with pytest.warns(CorruptCheckpoint) as caught:
        assert checkpoints.latest(tmp_path, IDENTITY) is None
    messages = [str(warning.message) for warning in caught]
    assert messages == [
        "step_000000002.checkpoint is corrupt: trying step_000000001.checkpoint before it",
        "step_000000001.checkpoint is corrupt: there is no older one, starting at step 0",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"params": {"epochs": 4, "bins": {"count": 4}}}, "params.epochs was 3 and is 4"),
        ({"params": {"epochs": 3, "bins": {"count": 5}}}, "params.bins.count was 4 and is 5"),
        ({"digests": {"train": "b"}}, "digests.train was 'a' and is 'b'"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tmp_path, change, words):
    checkpoints.save(tmp_path, made(2))
    with pytest.raises(DataError, match=words) as caught:
        checkpoints.latest(tmp_path, IDENTITY | change)
    assert str(tmp_path) in caught.value.hint


def test_a_full_disk_leaves_the_older_checkpoint_as_it_was(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, made(1))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OperationalError, match="the disk is full"):
        checkpoints.save(tmp_path, made(2))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000001.checkpoint"]
    assert checkpoints.latest(tmp_path, IDENTITY).step == 1


def test_a_file_that_may_not_grow_is_one_clear_error_and_leaves_no_part_behind(tmp_path):
    """The limit is set in the system: the write fails halfway, as on a full disk."""
    checkpoints.save(tmp_path, made(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        with pytest.raises(OperationalError, match="may not grow that large"):
            checkpoints.save(tmp_path, made(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000001.checkpoint"]
    assert checkpoints.latest(tmp_path, IDENTITY).step == 1
