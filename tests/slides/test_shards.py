"""Shards: every slide belongs to exactly one, and invalid shards are refused."""

import hashlib

import pytest

from mcti.errors import DataError, UsageError
from mcti.slides import shards


def test_the_shard_is_the_hash_of_the_slide_id():
    """Oracle: the first 8 bytes of SHA-256 as an integer, with hashlib and int(…, 16)."""
    for name in ("a", "é", "P-0001-A"):
        assert shards.shard_of(name, 7) == int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) % 7
    counts = [sum(shards.shard_of(f"S{i}", 4) == shard for i in range(1000)) for shard in range(4)]
    assert sum(counts) == 1000
    assert min(counts) > 200


@pytest.mark.parametrize("shard", [(3, 3), (-1, 3), (0, 0)])
def test_a_shard_outside_of_its_number_is_refused(shard):
    with pytest.raises(UsageError, match=f"shard {shard[0]}/{shard[1]} does not exist"):
        shards.check_shard(shard)


def test_the_number_of_shards_is_that_of_the_table_names(tmp_path):
    with pytest.raises(DataError, match="no tables of shards in out"):
        shards.count_shards(tmp_path, "out")
    for i in range(2):
        (tmp_path / shards.table_name(i, 2)).touch()
    assert shards.count_shards(tmp_path, "out") == 2
    (tmp_path / shards.table_name(0, 3)).touch()
    with pytest.raises(DataError, match="tables of 2, 3 shards"):
        shards.count_shards(tmp_path, "out")
