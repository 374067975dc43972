"""Files of a set below a folder."""

import pytest

from mcti.errors import DataError
from mcti.slides.feature_sets import entries


def test_hidden_files_and_other_suffixes_are_left_out(tmp_path):
    for name in ("b.h5", "sub/a.h5", ".c.h5", ".cache/d.h5", "e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = [path.relative_to(tmp_path).as_posix() for path in entries.files_below(tmp_path, ".h5")]
    assert files == ["b.h5", "sub/a.h5"]


def test_the_only_folder_with_files(tmp_path):
    (tmp_path / "features_a").mkdir()
    (tmp_path / "features_b").mkdir()
    (tmp_path / "features_b" / "x.h5").touch()
    assert entries.only_folder(tmp_path, ("features_*",), (".h5",)) == tmp_path / "features_b"
    (tmp_path / "features_a" / "x.h5").touch()
    with pytest.raises(DataError, match="2 sets of features: features_a, features_b"):
        entries.only_folder(tmp_path, ("features_*",), (".h5",))


def test_paths_of_the_machine_that_wrote_a_file_are_not_copied():
    attributes = {"name": "S1", "patch_size": 256, "save_path": "/home/someone/S1.h5", "savetodir": "/home/someone"}
    assert entries.without_paths(attributes) == {"name": "S1", "patch_size": 256}
