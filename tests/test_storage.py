"""Whole files or nothing, errors with an address; the S3 half is tested on a real server in tests/local."""

import errno
import hashlib

import pytest

from mcti import s3, storage
from mcti.errors import DataError, OperationalError


def test_a_body_that_fails_leaves_the_old_file_and_no_draft(tmp_path):
    target = tmp_path / "a file"
    target.write_text("old")

    def fail() -> None:
        with storage.replacing(target) as draft:
            draft.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a file"]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "folder"
    for names in (("a", "b"), ("c",)):
        with storage.replacing(target) as draft:
            draft.mkdir()
            for name in names:
                (draft / name).write_text(name)
    assert [p.name for p in target.iterdir()] == ["c"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_draft_of_a_killed_process_is_thrown_away(tmp_path):
    (tmp_path / ".x.draft").mkdir()
    (tmp_path / ".x.draft" / "rest").write_text("half")
    storage.write_text(tmp_path / "x", "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("number", "error_class", "words"),
    [
        (errno.ENOSPC, OperationalError, "the disk is full"),
        (errno.EROFS, OperationalError, "read-only"),
        (errno.EACCES, OperationalError, "permission denied"),
        (errno.ENOENT, DataError, "no such file"),
    ],
)
def test_an_error_of_the_system_gets_location_and_hint(number, error_class, words):
    error = storage.translate_os_error(OSError(number, "x", "/some/place"))
    assert type(error) is error_class
    assert words in error.what
    assert error.where == "/some/place"
    assert error.hint


def test_a_full_disk_during_a_write_is_reported_with_the_path(tmp_path):
    with pytest.raises(OperationalError, match=r"the disk is full.*out"), storage.replacing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_md5_of_a_tree_depends_on_names_and_contents_and_not_on_their_order(tmp_path):
    for folder, order in (("one", ("a", "b")), ("two", ("b", "a"))):
        (tmp_path / folder / "inner").mkdir(parents=True)
        for name in order:
            (tmp_path / folder / "inner" / name).write_text(name)
    assert storage.tree_md5(tmp_path / "one") == storage.tree_md5(tmp_path / "two")
    (tmp_path / "two" / "inner" / "a").rename(tmp_path / "two" / "inner" / "c")
    assert storage.tree_md5(tmp_path / "one") != storage.tree_md5(tmp_path / "two")


def test_md5s_are_those_of_the_standard_library(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 10**6)
    assert storage.md5(tmp_path / "x") == hashlib.md5(b"abc" * 10**6).hexdigest()
    assert storage.text_md5("ä") == hashlib.md5("ä".encode()).hexdigest()


@pytest.mark.parametrize("address", ["s3:/bucket/key", "bucket/key", "s3://"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(DataError, match="is not an S3 address"):
        s3.split_address(address)


def test_addresses_keep_their_slashes_when_joined():
    assert storage.join("s3://b/k/", "x") == "s3://b/k/x"
    assert storage.join("folder", "x") == "folder/x"


def test_nan_is_refused_in_json():
    with pytest.raises(ValueError, match="Out of range"):
        storage.to_json({"x": float("nan")})


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00"], ids=["incomplete", "nested too deeply", "zero byte"])
def test_what_is_not_json_is_refused_with_the_path(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="not a JSON document") as raised:
        storage.read_json(tmp_path / "a.json")
    assert raised.value.where == str(tmp_path / "a.json")


def test_no_server_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(OperationalError, match=r"S3 does not answer.*stack up"):
        storage.read_bytes("s3://bucket/key")


@pytest.mark.parametrize(("identity", "secret"), [("AKIDEXAMPLE\n", "hush"), ("AKIDEXAMPLE", "hush hush\n")])
def test_a_key_with_a_line_break_is_named_and_not_shown(monkeypatch, identity, secret):
    """A Secret of Kubernetes keeps the line break at the end of the file that it was made from."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", identity)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(OperationalError, match="contains a line break") as caught:
        storage.exists("s3://bucket/key")
    assert caught.value.where == "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert "AKID" not in str(caught.value)
    assert "hush" not in str(caught.value)
