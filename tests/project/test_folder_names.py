"""Names and commands of a project in a folder whose name is no valid name of a cohort, and features in an archive."""

import shlex

import pytest

from mcti.errors import DataError
from mcti.params.data import IngestParams
from mcti.project import init as projects
from mcti.project.init import InitResult
from mcti.project.slide_sets import propose_features


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my project", "my-project"),
        ("Brust (OS)", "Brust-OS"),
        ("lung-os", "lung-os"),
        ("\u00fc", "cohort"),
        ("a" * 90, "a" * 64),
    ],
)
def test_the_name_of_a_folder_is_a_name_that_the_settings_accept(tmp_path, folder, name):
    assert projects.name_of(tmp_path / folder) == name
    assert IngestParams(name=name).name == name


def test_the_next_command_enters_a_folder_with_a_blank():
    result = InitResult(folder="my project", name="my-project", understood=(), check=(), written=1, kept=())
    (command,) = (line.removeprefix("next").strip() for line in result.lines() if line.startswith("next"))
    assert shlex.split(command) == ["cd", "my project"]


def test_features_in_an_archive_are_to_be_unpacked(tmp_path):
    (tmp_path / "bags.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(DataError, match=r"archive.*unpack it: python -m zipfile -e bags\.zip features"):
        propose_features(str(tmp_path / "bags.zip"), {})
