"""Local copies of slides: limits of size and disk. Copies from S3: tests/steps/test_extract_s3.py."""

import threading
import time

import pytest

from mcti.errors import OperationalError
from mcti.slides import staging
from mcti.slides.status import SlideError, Status


def test_the_total_size_of_copies_stays_within_the_cache(tmp_path):
    reservations, totals, sizes = staging.DiskReservations(tmp_path), [], []

    def work(size):
        with reservations.reserve(size, 100, "a slide"):
            sizes.append(size)
            totals.append(sum(sizes))
            time.sleep(0.05)
            sizes.remove(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (60, 50, 40, 30, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(totals) == 5
    assert max(totals) <= 100
    with pytest.raises(SlideError) as caught, reservations.reserve(101, 100, "a slide"):
        pass
    assert caught.value.status is Status.READ_ERROR


def test_a_copy_that_exceeds_the_free_space_is_refused(tmp_path, monkeypatch):
    full = staging.shutil._ntuple_diskusage(1 << 40, 1 << 40, 1000)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: full)
    with (
        pytest.raises(OperationalError, match="no disk space for a slide"),
        staging.DiskReservations(tmp_path).reserve(2000, 10_000, "a slide"),
    ):
        pass
