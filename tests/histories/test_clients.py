"""The short limits of the clients of a history end with their preparation."""

import os

from mcti import s3
from tests.histories import clients


def test_the_limits_of_the_clients_end_with_the_block():
    before, wait = dict(os.environ), s3.longest_wait()
    with clients.limited_waiting() as limits:
        assert limits.items() <= os.environ.items()
        assert s3.longest_wait() == 2 * (3 + 3) + 1
    assert (dict(os.environ), s3.longest_wait()) == (before, wait)
