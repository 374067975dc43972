"""Pinned addresses; a dictionary takes the place of S3, and the oracle are the classes of DVC."""

import json

import pytest
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from mcti import pinned
from mcti.errors import DataError

FILES = {"a.csv": b"a", "slides/x y.svs": b"x", "slides/é.svs": b"e", "slides-b/z.svs": b"z"}


@pytest.fixture
def remote():
    """{address: bytes} of a folder of FILES; the pinned address of the folder."""
    body = pinned.manifest_bytes({name: pinned.md5_hex(data) for name, data in FILES.items()})
    md5 = pinned.md5_hex(body) + ".dir"
    objects = {pinned.object_address("s3://b/p", pinned.md5_hex(data)): data for data in FILES.values()}
    objects[pinned.object_address("s3://b/p", md5)] = body
    return objects, f"dvc+s3://b/p/{md5}"


def test_the_manifest_has_the_bytes_and_the_md5_of_dvc():
    """Oracle: Tree of dvc_data (DVC 3.67)."""
    tree = Tree()
    for name, data in FILES.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", pinned.md5_hex(data)))
    tree.digest()
    body = pinned.manifest_bytes({name: pinned.md5_hex(data) for name, data in FILES.items()})
    assert body == tree.as_bytes()
    assert pinned.md5_hex(body) + ".dir" == tree.hash_info.value


def test_files_below_a_path_are_those_of_that_folder_only(remote):
    objects, address = remote
    assert set(pinned.files(address, objects.__getitem__)) == set(FILES)
    below = pinned.files(f"{address}/slides", objects.__getitem__)
    assert set(below) == {"x y.svs", "é.svs"}
    assert pinned.read(f"{address}/slides/é.svs", objects.__getitem__) == b"e"


def test_bytes_with_another_md5_are_refused(remote):
    objects, address = remote
    objects[pinned.object_address("s3://b/p", pinned.md5_hex(b"x"))] = b"y"
    with pytest.raises(DataError, match="the bytes have MD5"):
        pinned.read(f"{address}/slides/x y.svs", objects.__getitem__)


def test_a_forged_manifest_is_refused(remote):
    objects, address = remote
    version = pinned.parse(address)
    objects[version.object] = objects[version.object].replace(b"a.csv", b"b.csv")
    with pytest.raises(DataError, match="the bytes have MD5"):
        pinned.files(address, objects.get)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_a_manifest_cannot_write_outside_its_folder(name):
    body = json.dumps([{"md5": "0" * 32, "relpath": name}]).encode()
    address = f"dvc+s3://b/p/{pinned.md5_hex(body)}.dir"
    with pytest.raises(DataError, match="points outside its folder"):
        pinned.files(address, lambda _: body)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("dvc+s3://b/p/raw", "no version in the address"),
        ("dvc+s3://" + "0" * 32, "no version in the address"),
        (f"dvc+s3://b/p/{'0' * 32}/x", "below the version of a file"),
    ],
)
def test_an_address_without_a_version_is_refused(address, words):
    with pytest.raises(DataError, match=words):
        pinned.parse(address)
