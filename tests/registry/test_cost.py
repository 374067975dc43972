"""The cost of one prediction."""

from mcti.registry import cost, ensemble_files
from tests.registry.factories import Run


def test_the_peak_grows_with_the_patches_and_is_reproducible(tmp_path):
    loaded = ensemble_files.load(Run(tmp_path).models)
    small, large = (cost.measure({"a": loaded, "b": loaded}, patches, rounds=1) for patches in (10, 2000))
    assert small["a"].peak_bytes == small["b"].peak_bytes
    weights = sum(t.nbytes for member in loaded.members.values() for t in member.net.state_dict().values())
    assert small["a"].peak_bytes > weights
    # The bag alone: 1,990 more patches of 5 numbers in float32.
    assert large["a"].peak_bytes - small["a"].peak_bytes >= 1990 * 5 * 4
    assert all(value.seconds > 0 for value in large.values())
