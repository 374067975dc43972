"""A set of ready-made features: files by slide, versions, coverage of a table of slides, staging from S3."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from mcti import s3, storage, versions
from mcti.errors import DataError
from mcti.params import ImportParams
from mcti.slides.feature_source import list_versions, open_source
from mcti.slides.manifest import ListedSlide


def settings(path: object, format_name: str = "pt") -> ImportParams:
    return ImportParams(format=format_name, path=str(path), encoder="uni", mpp=0.5, patch_size=256)


def listed(*slide_ids: str) -> dict[str, ListedSlide]:
    return {name: ListedSlide(name, f"P-{name}") for name in slide_ids}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """Features of A and B in subfolders, with a description of B, and files that are none."""
    root = tmp_path / "a set"
    (root / "sub").mkdir(parents=True)
    for value, name in enumerate(("A.pt", "sub/B.pt", "unused.pt")):
        torch.save(torch.full((3, 4), float(value)), root / name)
    (root / "sub" / "B.meta.json").write_text("{}")
    (root / "run.log").write_text("a log")
    (root / ".hidden.pt").write_text("hidden")
    return root


def test_files_are_listed_with_their_names_and_a_version_of_an_entry_names_its_files(folder):
    assert list(list_versions(folder)) == ["A.pt", "sub/B.meta.json", "sub/B.pt", "unused.pt"]
    with open_source(settings(folder), listed("A", "B")) as source:
        assert source.version(source.entries["A"]) == {"A.pt": md5(folder / "A.pt")}
        assert set(source.version(source.entries["B"])) == {"sub/B.pt", "sub/B.meta.json"}


def test_coverage_names_slides_without_features_and_entries_without_a_slide(folder):
    with open_source(settings(folder), listed("A", "B.svs", "C", "D", "E", "F")) as source:
        assert source.coverage() == (
            "1 entries of the set belong to the table of slides; 5 slides have no features (B.svs, C, D and 2 more); "
            "2 entries belong to no slide (B, unused)"
        )
    with open_source(settings(folder), listed("A", "B", "unused")) as source:
        assert source.coverage() == "3 entries of the set belong to the table of slides"


def test_a_table_that_no_entry_matches_is_refused_with_an_example_of_both_names(folder):
    with (
        pytest.raises(DataError, match=r"no entry belongs to the table of slides \('A', slide 'X'\)"),
        open_source(settings(folder), listed("X", "Y")),
    ):
        pass


def test_an_empty_and_a_missing_folder_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of features"):
        list_versions(tmp_path / "empty")
    with pytest.raises(DataError, match="no such file or folder"):
        list_versions(tmp_path / "missing")


def test_all_entries_of_a_set_of_one_file_have_its_version(tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, A=np.ones(4, np.float32), B=np.zeros(4, np.float32))
    with open_source(settings(file, "npy"), listed("A", "B")) as source:
        assert source.version(source.entries["A"]) == source.version(source.entries["B"]) == {"set.npz": md5(file)}
        with source.staged(source.entries["A"]):
            np.testing.assert_array_equal(source.entries["A"].read(None).features, np.ones((1, 4)))


@pytest.mark.stack
def test_a_prefix_on_s3_is_listed_without_a_read_and_staged_slide_by_slide(folder, servers_of, tmp_path):
    s3.ensure_bucket("features")
    prefix = "s3://features/a set"
    for name in ("A.pt", "sub/B.pt", "sub/B.meta.json"):
        storage.upload(folder / name, f"{prefix}/{name}")
    storage.upload(folder / "unused.pt", "s3://features/a set more/unused.pt")  # another prefix
    with open_source(settings(prefix), listed("A", "B")) as source:
        assert sorted(source.entries) == ["A", "B"]
        b = source.entries["B"]
        assert source.version(b)["sub/B.pt"] == md5(folder / "sub" / "B.pt")
        assert (source.root / "sub" / "B.pt").stat().st_size == 0
        with source.staged(b):
            np.testing.assert_array_equal(b.read(None).features, np.ones((3, 4)))
        assert (source.root / "sub" / "B.pt").stat().st_size == 0
    pinned = versions.publish(folder, "s3://features/remote").address
    with open_source(settings(f"{pinned}/sub"), listed("B")) as source:
        assert source.version(source.entries["B"])["B.pt"] == md5(folder / "sub" / "B.pt")
        with source.staged(source.entries["B"]):
            np.testing.assert_array_equal(source.entries["B"].read(None).features, np.ones((3, 4)))
    file = tmp_path / "set.npz"
    np.savez(file, A=np.ones(4, np.float32), B=np.zeros(4, np.float32))
    storage.upload(file, "s3://features/set.npz")
    with open_source(settings("s3://features/set.npz", "npy"), listed("A", "B")) as source:
        assert source.version(source.entries["A"]) == {"set.npz": md5(file)}
        with source.staged(source.entries["A"]):
            np.testing.assert_array_equal(source.entries["A"].read(None).features, np.ones((1, 4)))
