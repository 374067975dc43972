"""Addresses of registered models."""

import pytest

from mcti.errors import DataError, UsageError
from mcti.registry import models


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
