"""A folder of ready-made features: files by slide, versions, coverage of a table of slides."""

import hashlib

import pytest

from mcti.errors import DataError
from mcti.slides.feature_source import FeatureSource


@pytest.fixture
def folder(tmp_path):
    for name in ("A.h5", "h5_files/B.h5", "pt_files/B.pt", "unused.pt", "config.json", ".hidden.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_a_file_belongs_to_the_slide_after_which_it_is_named(folder):
    source = FeatureSource.open(folder)
    assert source.names == {"A": ("A.h5",), "B": ("h5_files/B.h5", "pt_files/B.pt"), "unused": ("unused.pt",)}
    assert source.version("A.h5") == hashlib.md5(b"A.h5").hexdigest()


def test_coverage_names_slides_without_a_file_and_files_without_a_slide(folder):
    coverage = FeatureSource.open(folder).coverage(["A", "B", "C", "D", "E", "F"])
    assert coverage.without_file == ("C", "D", "E", "F")
    assert coverage.without_slide == ("unused",)
    assert str(coverage) == (
        "2 of 6 slides have ready-made features; 4 have none (C, D, E and 1 more); "
        "1 files belong to no slide of the table (unused)"
    )
    assert str(FeatureSource.open(folder).coverage(["A", "B", "unused"])) == "3 of 3 slides have ready-made features"


def test_a_table_that_no_file_matches_is_refused_with_an_example_of_both_names(folder):
    with pytest.raises(DataError, match=r"file 'A', slide 'A\.svs'"):
        FeatureSource.open(folder).coverage(["A.svs", "B.svs"])


def test_an_empty_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no file of features"):
        FeatureSource.open(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        FeatureSource.open(tmp_path / "missing")


def test_only_the_files_of_the_slide_are_staged_under_their_names(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("staged")
    FeatureSource.open(folder).stage("B", target)
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert files == ["h5_files/B.h5", "pt_files/B.pt"]
    assert (target / "pt_files/B.pt").read_bytes() == b"pt_files/B.pt"


@pytest.mark.stack
def test_a_prefix_on_s3_is_listed_without_a_read_and_staged(folder, servers_of, tmp_path_factory):
    from mcti import s3, storage, versions

    s3.ensure_bucket("features")
    prefix = "s3://features/set one"
    for name in ("A.h5", "pt_files/B.pt"):
        storage.upload(folder / name, f"{prefix}/{name}")
    storage.upload(folder / "unused.pt", "s3://features/set one more/unused.pt")  # another prefix
    source = FeatureSource.open(prefix)
    assert source.names == {"A": ("A.h5",), "B": ("pt_files/B.pt",)}
    assert source.version("A.h5") == hashlib.md5(b"A.h5").hexdigest()
    target = tmp_path_factory.mktemp("staged from s3")
    source.stage("B", target)
    assert (target / "pt_files/B.pt").read_bytes() == b"pt_files/B.pt"
    pinned = FeatureSource.open(versions.publish(folder, "s3://features/remote").address + "/pt_files")
    assert pinned.names == {"B": ("B.pt",)}
    assert pinned.version("B.pt") == hashlib.md5(b"pt_files/B.pt").hexdigest()
    pinned.stage("B", target / "pinned")
    assert (target / "pinned" / "B.pt").read_bytes() == b"pt_files/B.pt"
