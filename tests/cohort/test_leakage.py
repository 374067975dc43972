import numpy as np
import pandas as pd
import pytest

from mcti.cohort import leakage


def blocks(values, size=64):
    ids = [f"P-{i:04d}" for i in range(len(values))]
    return lambda: ((ids[i : i + size], values[i : i + size]) for i in range(0, len(values), size))


@pytest.mark.parametrize("patients", [40, 700])
def test_only_the_planted_copies_are_reported(patients):
    """Genes share ten factors, as those of one tissue do; copies are rounded, shifted by noise, or exact."""
    rng = np.random.default_rng(patients)
    values = rng.standard_normal((patients, 10)) @ rng.standard_normal((10, 300)) + rng.standard_normal((patients, 300))
    values[5] = values[30]
    values[6] = values[31].round(2)
    values[7] = values[32] + rng.normal(0, 0.02, 300)
    values[:, 0] *= 1e6  # one gene in another unit must not determine the correlation
    values[10:12, 100:200] = 1e4  # nor outliers that two patients share: without clipping the correlation is 0.994
    pairs = leakage.same_profiles(blocks(values.astype(np.float32)))
    assert [pair[:2] for pair in pairs] == [("P-0005", "P-0030"), ("P-0006", "P-0031"), ("P-0007", "P-0032")]


def test_pairs_agree_with_the_full_correlation_matrix():
    """Oracle: numpy.corrcoef over all pairs of the standardised, clipped profiles."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((120, 200))
    for i in range(0, 40, 2):
        values[i + 1] = values[i] + rng.normal(0, 0.05, 200)
    z = np.clip((values - values.mean(0)) / values.std(0), -3, 3)
    expected = {(i, j) for i, j in np.argwhere(np.triu(np.corrcoef(z), 1) >= leakage.MIN_CORRELATION).tolist()}
    pairs = {(int(a[2:]), int(b[2:])) for a, b, _ in leakage.same_profiles(blocks(values.astype(np.float32)))}
    assert len(expected) >= 15
    assert pairs == expected


def test_a_copy_is_reported_despite_missing_and_infinite_values():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((60, 100)).astype(np.float32)
    values[3] = values[4]
    values[:, 7] = np.nan
    values[10, 8] = np.inf
    assert [pair[:2] for pair in leakage.same_profiles(blocks(values))] == [("P-0003", "P-0004")]


def test_too_few_genes_are_not_compared():
    values = np.ones((30, 19), dtype=np.float32)
    assert leakage.same_profiles(blocks(values)) == []


def test_shared_slides_are_reported_by_id_and_by_contents():
    slides = pd.DataFrame(
        {
            "patient_id": ["a", "b", "c", "d", "d"],
            "slide_id": ["1", "1", "2", "3", "4"],
            "md5": [None, None, "f", "f", "f"],
        }
    )
    assert leakage.same_slides(slides) == [("a", "b", "slide 1"), ("c", "d", "slide contents (md5) f")]
