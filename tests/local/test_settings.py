"""The environment of a stack: the variables that `activate` sets and keeps, and the permissions of the keys."""

import os
import stat
import subprocess

import pytest

from mcti.errors import OperationalError
from mcti.local import settings

PORTS = {"s3": 18333, "mlflow": 15000}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_"))]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "it's a 'project'"
    (root / ".stack").mkdir(parents=True)
    settings.make_credentials(root / ".stack")
    settings.write(root / ".stack", PORTS)
    return root


def test_the_nearest_stack_above_is_activated(root):
    inner = root / "data" / "raw"
    inner.mkdir(parents=True)
    assert settings.activate(inner) == root / ".stack" / "env"
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:18333"
    assert os.environ["AWS_SHARED_CREDENTIALS_FILE"] == str(root / ".stack" / "credentials")
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:15000"


def test_without_a_stack_the_environment_is_unchanged(tmp_path):
    before = dict(os.environ)
    assert settings.activate(tmp_path) is None
    assert dict(os.environ) == before


def test_an_unreadable_stack_of_another_user_is_not_activated(root):
    (root / ".stack").chmod(0)
    child = os.fork()
    if not child:
        activated = True
        try:
            if os.geteuid() == 0:
                os.setuid(65534)  # an unprivileged user: root can read every file
            activated = settings.activate(root) is not None
        finally:
            os._exit(activated)
    assert os.waitpid(child, 0)[1] == 0


def test_an_address_in_the_environment_takes_precedence(root):
    os.environ["AWS_ENDPOINT_URL_S3"] = "https://s3.example"
    os.environ["AWS_PROFILE"] = "other"
    os.environ["MLFLOW_TRACKING_URI"] = "https://mlflow.example"
    settings.activate(root)
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "https://s3.example"
    assert os.environ["AWS_PROFILE"] == "other"
    assert "AWS_SHARED_CREDENTIALS_FILE" not in os.environ
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://mlflow.example"


def test_keys_of_another_service_are_not_sent_to_the_stack(root):
    os.environ |= {"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other", "AWS_PROFILE": "other"}
    settings.activate(root)
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} & set(os.environ)


def test_a_shell_reads_the_same_values(root):
    script = '. "$1/.stack/env" && printf %s "$AWS_SHARED_CREDENTIALS_FILE"'
    done = subprocess.run(["sh", "-c", script, "sh", str(root)], capture_output=True, text=True, check=True)
    assert done.stdout == str(root / ".stack" / "credentials")


@pytest.mark.parametrize("name", ["env", "credentials", "identities.json", "secrets.json"])
def test_only_the_owner_can_read_keys_and_settings(root, name):
    assert stat.S_IMODE((root / ".stack" / name).stat().st_mode) == 0o600


def test_keys_are_generated_once_and_differ_between_stacks(root, tmp_path):
    before = (root / ".stack" / "credentials").read_text()
    settings.make_credentials(root / ".stack")
    assert (root / ".stack" / "credentials").read_text() == before
    (tmp_path / "other").mkdir()
    settings.make_credentials(tmp_path / "other")
    assert (tmp_path / "other" / "credentials").read_text() != before


def test_s3_whose_volumes_are_not_registered_yet_is_not_ready(monkeypatch):
    """After a restart SeaweedFS lists its buckets before it can return an object: InternalError until then."""
    objects, registered = {}, [False]

    def get(address):
        if not registered[0]:
            raise OperationalError("S3 answered InternalError", address)
        return objects[address], "etag"

    monkeypatch.setattr(settings.servers, "accepts_connections", lambda port: True)
    monkeypatch.setattr(settings.s3, "ensure_bucket", lambda name: None)
    monkeypatch.setattr(settings.s3, "exists", lambda address: address in objects)
    monkeypatch.setattr(settings.s3, "put", objects.__setitem__)
    monkeypatch.setattr(settings.s3, "get", get)
    assert not settings.s3_ready({"s3": 1})
    registered[0] = True
    assert settings.s3_ready({"s3": 1})
    assert list(objects.values()) == [b"ready"]
