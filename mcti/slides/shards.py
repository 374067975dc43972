"""Splits the slides of a cohort into shards for parallel tasks."""

import hashlib
from pathlib import Path

from mcti.errors import DataError, UsageError


def shard_of(slide_id: str, shards: int) -> int:
    """The shard (0 to shards - 1) of a slide: a hash of its id, independent of the other slides of the list."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") % shards


def check_shard(shard: tuple[int, int]) -> None:
    """Refuse a shard (i, n) outside of 0 <= i < n.

    Raises UsageError.
    """
    index, shards = shard
    if not 0 <= index < shards:
        hint = f"use 0/{shards} to {shards - 1}/{shards}" if shards > 0 else "use 0/1 for a single shard"
        raise UsageError(f"shard {index}/{shards} does not exist", "--shard", hint)


def table_name(index: int, shards: int) -> str:
    """File name of a shard's table of slides."""
    return f"slides-{index}-of-{shards}.csv"


def count_shards(folder: Path, where: str) -> int:
    """The number of shards that the names of the tables in `folder` state; `where`: the folder in an error message.

    Raises DataError when there is no table of a shard, or the names state different numbers.
    """
    counts = sorted({int(path.stem.rpartition("-of-")[2]) for path in folder.glob("slides-*-of-*.csv")})
    if len(counts) != 1:
        what = f"tables of {', '.join(map(str, counts))} shards" if counts else "no tables of shards"
        raise DataError(what, where, "run mcti extract --shard I/N for each I, with the same N")
    return counts[0]
