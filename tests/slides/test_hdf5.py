"""A full disk is an error and not, as in HDF5 alone, a segmentation fault."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from mcti.slides import hdf5

# In a separate process: the limit applies to all files of a process, and HDF5 may end the process.
WRITE_BEYOND_THE_LIMIT = """
import resource, sys
import numpy as np
from pathlib import Path
from mcti.slides import hdf5
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
try:
    with hdf5.create(Path(sys.argv[1])) as (file, check):
        table = file.create_dataset("x", (0, 4096), "f4", maxshape=(None, 4096), chunks=(256, 4096))
        for start in range(0, 256 * 40, 256):
            table.resize(start + 256, axis=0)
            table[start:] = 1.0
            if sys.argv[2] == "checked":
                check()
except OSError as error:
    print(type(error).__name__, error.errno, start)
"""


@pytest.mark.parametrize(("mode", "last"), [("checked", 2560), ("unchecked", 9984)])
def test_a_full_disk_is_an_operational_error(tmp_path, mode, last):
    """256 rows of 4,096 float32 are 4.2 MB: the third block passes 10 MB, and HDF5 buffers some."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT, str(tmp_path / "x.h5"), mode],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name, number, start = done.stdout.split()
    assert (name, int(number)) == ("OSError", 27)  # EFBIG, which is similar to ENOSPC
    assert int(start) <= last


def test_written_data_can_be_read(tmp_path):
    values = np.arange(12.0).reshape(3, 4)
    with hdf5.create(tmp_path / "x.h5") as (file, check):
        file["x"] = values
        check()
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"], values)


def test_an_attribute_is_that_of_h5py(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update({"text": "µm é", "number": 0.25, "count": 7, "bytes": np.bytes_(b"abc")})
        assert [hdf5.read_attribute(file.id, name) for name in ("text", "number", "count")] == ["µm é", 0.25, 7]
        assert hdf5.read_attribute(file.id, "bytes") == "abc"
        assert hdf5.read_attribute(file.id, "nothing", "default") == "default"
        with pytest.raises(KeyError):
            hdf5.read_attribute(file.id, "nothing")
