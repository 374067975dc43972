"""Helpers that several encoders use."""

import hashlib

import cv2
import numpy as np
import pytest

from mcti.errors import MctiError
from mcti.slides.encoder_protocol import file_sha256, to_batch

from .conftest import texture


def test_a_batch_has_the_channels_first_and_the_size_of_the_encoder():
    """Oracle: cv2.resize with area averaging to shrink, bicubic to enlarge."""
    large, exact, small = texture(64, 64, 1), texture(32, 32, 2), texture(16, 16, 3)
    batch = to_batch([large, exact, small], 32)
    assert (batch.shape, batch.dtype) == ((3, 3, 32, 32), np.float32)
    expected = [
        cv2.resize(large, (32, 32), interpolation=cv2.INTER_AREA),
        exact,
        cv2.resize(small, (32, 32), interpolation=cv2.INTER_CUBIC),
    ]
    np.testing.assert_array_equal(batch, np.stack(expected).transpose(0, 3, 1, 2))


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "w").write_bytes(b"weights")
    assert file_sha256(tmp_path / "w") == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(MctiError):
        file_sha256(tmp_path / "missing")
