"""Joining raw tables to a cohort."""

import pytest

from mcti.cohort import assembly


@pytest.mark.parametrize(
    ("text", "name"), [("a.svs", "a"), ("a.DX1.9fce", "a.DX1.9fce"), ("a.b.TIFF", "a.b"), ("a", "a")]
)
def test_only_the_suffix_of_a_slide_file_is_dropped(text, name):
    assert assembly.slide_name(text) == name


@pytest.mark.parametrize(
    ("path", "manifest", "expected"),
    [
        ("s/a.svs", "raw/slides.csv", "raw/s/a.svs"),
        ("../a.svs", "raw/slides.csv", "a.svs"),
        ("/store/a.svs", "raw/slides.csv", "/store/a.svs"),
        ("a.svs", "s3://bucket/raw/slides.csv", "s3://bucket/raw/a.svs"),
        ("s3://bucket/a.svs", "raw/slides.csv", "s3://bucket/a.svs"),
    ],
)
def test_slide_paths_are_relative_to_the_manifest(path, manifest, expected):
    assert assembly.resolve_slide_path(path, manifest) == expected
