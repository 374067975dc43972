import numpy as np
import pandas as pd
import pytest

from mcti.cohort import leakage


def blocks(values, size=64):
    ids = [f"P-{i:04d}" for i in range(len(values))]
    return lambda: ((ids[i : i + size], values[i : i + size]) for i in range(0, len(values), size))


@pytest.mark.parametrize("patients", [40, 700])
def test_planted_copies_are_found_and_nothing_else(patients):
    """Genes share ten factors, as those of one tissue do; copies are rounded, shifted by noise, or exact."""
    rng = np.random.default_rng(patients)
    values = rng.standard_normal((patients, 10)) @ rng.standard_normal((10, 300)) + rng.standard_normal((patients, 300))
    values[5] = values[30]
    values[6] = values[31].round(2)
    values[7] = values[32] + rng.normal(0, 0.02, 300)
    values[:, 0] *= 1e6  # one gene with another unit must not decide
    values[10:12, 100:200] = 1e4  # nor far outliers that two patients share: unclipped they correlate by 0.994
    found = leakage.same_profiles(blocks(values.astype(np.float32)))
    assert [pair[:2] for pair in found] == [("P-0005", "P-0030"), ("P-0006", "P-0031"), ("P-0007", "P-0032")]


def test_found_pairs_are_those_of_the_full_correlation_matrix():
    """Oracle: numpy.corrcoef over all pairs of the standardised, clipped profiles."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((120, 200))
    for i in range(0, 40, 2):
        values[i + 1] = values[i] + rng.normal(0, 0.05, 200)
    z = np.clip((values - values.mean(0)) / values.std(0), -3, 3)
    expected = {(i, j) for i, j in np.argwhere(np.triu(np.corrcoef(z), 1) >= leakage.NEAR).tolist()}
    found = {(int(a[2:]), int(b[2:])) for a, b, _ in leakage.same_profiles(blocks(values.astype(np.float32)))}
    assert len(expected) >= 15
    assert found == expected


def test_missing_and_infinite_values_hide_no_copy():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((60, 100)).astype(np.float32)
    values[3] = values[4]
    values[:, 7] = np.nan
    values[10, 8] = np.inf
    assert [pair[:2] for pair in leakage.same_profiles(blocks(values))] == [("P-0003", "P-0004")]


def test_too_few_genes_say_nothing():
    values = np.ones((30, 19), dtype=np.float32)
    assert leakage.same_profiles(blocks(values)) == []


def test_shared_slides_are_found_by_name_and_by_contents():
    slides = pd.DataFrame(
        {
            "patient_id": ["a", "b", "c", "d", "d"],
            "slide_id": ["1", "1", "2", "3", "4"],
            "md5": [None, None, "f", "f", "f"],
        }
    )
    assert leakage.same_slides(slides) == [("a", "b", "slide 1"), ("c", "d", "slide contents (md5) f")]
