"""Addresses of registered models."""

import contextlib
import shutil
from types import SimpleNamespace

import pytest

from mcti.errors import DataError, UsageError
from mcti.registry import ensemble_files, models, tracking
from mcti.registry.rest import ApiError
from tests.registry.factories import Run


@pytest.mark.parametrize(
    ("address", "parts"),
    [("models:/lung-os@champion", ("lung-os", "champion", "")), ("models:/lung os/12", ("lung os", "", "12"))],
)
def test_an_address_has_a_name_and_an_alias_or_a_number(address, parts):
    assert models.parse_address(address) == parts


@pytest.mark.parametrize("address", ["lung-os", "models:/lung-os", "models:/a@b@c", "models:/a/b", "models:/a/1/2"])
def test_any_other_address_is_refused(address):
    with pytest.raises(UsageError, match="is not the address of a version"):
        models.parse_address(address)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        models.fetch(str(tmp_path / "missing"), tmp_path)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    root = tmp_path_factory.mktemp("ensemble")
    return root / "model", ensemble_files.assemble(Run(root).models, root / "model" / "artifacts" / "ensemble")


def fetch_with(monkeypatch, tmp_path, folder, tags):
    """`fetch` of version 2 with these tags, whose ensemble is that in `folder`."""
    version = SimpleNamespace(name="lung-os", version="2", tags=tags)
    client = SimpleNamespace(download_version=lambda name, version, inner, out: folder / inner)
    monkeypatch.setattr(tracking, "service", lambda: contextlib.nullcontext(client))
    monkeypatch.setattr(models, "version_at", lambda *_: version)
    return models.fetch("models:/lung-os@champion", tmp_path)


def test_a_version_whose_files_have_the_tagged_digest_is_fetched(monkeypatch, tmp_path, ensemble):
    folder, digest = ensemble
    assert fetch_with(monkeypatch, tmp_path, folder, {models.DIGEST: digest}) == folder / "artifacts" / "ensemble"


@pytest.mark.parametrize("tags", [{}, {models.DIGEST: ""}], ids=["removed", "empty"])
def test_a_version_without_its_digest_tag_is_refused(monkeypatch, tmp_path, ensemble, tags):
    with pytest.raises(DataError, match=r"has no tag mcti\.digest.*lung-os, version 2"):
        fetch_with(monkeypatch, tmp_path, ensemble[0], tags)


def test_a_version_without_the_index_of_its_files_is_refused(monkeypatch, tmp_path, ensemble):
    bare = tmp_path / "model" / "artifacts" / "ensemble"
    shutil.copytree(ensemble[0] / "artifacts" / "ensemble", bare)
    (bare / ensemble_files.INDEX).unlink()
    with pytest.raises(DataError, match=r"ensemble\.json is missing.*lung-os, version 2"):
        fetch_with(monkeypatch, tmp_path, tmp_path / "model", {models.DIGEST: ensemble[1]})


@pytest.mark.parametrize(
    ("alias", "hint"),
    [
        ("challenger", "run `mcti register` first"),
        ("champion", "run `mcti promote` first"),
        ("previous", "no champion was replaced yet"),
        ("staging", "the aliases of mcti are challenger, champion, previous"),
    ],
)
def test_an_alias_that_no_version_has_is_an_error_with_what_to_do(alias, hint):
    def absent(*_):
        raise ApiError("no such alias", "RESOURCE_DOES_NOT_EXIST")

    with pytest.raises(DataError, match=f"no version has the alias {alias} in model m: {hint}"):
        models.unconfirmed_version_at(SimpleNamespace(get_model_version_by_alias=absent), f"models:/m@{alias}")
