"""The address of MLflow."""

import pytest

from mcti.errors import OperationalError
from mcti.registry import tracking


@pytest.mark.parametrize("address", ["http://somebody:hush@127.0.0.1:9", "postgresql://somebody:hush@127.0.0.1/mlflow"])
def test_a_password_in_the_address_is_refused(monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(OperationalError, match="MLFLOW_TRACKING_PASSWORD") as caught, tracking.service():
        pass
    assert "hush" not in str(caught.value)
