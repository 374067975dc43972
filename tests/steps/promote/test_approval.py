"""approve with an electronic signature, on a real MLflow with basic authentication."""

import urllib.request
from base64 import b64encode

import pytest

from mcti import storage
from mcti.errors import DataError, NotEnoughEvidence, Untrusted, UsageError
from mcti.params import PromoteParams, RegisterParams
from mcti.registry import reauthentication, tracking
from mcti.steps import lineage
from mcti.steps.ledger import show_ledger
from mcti.steps.promote.approval import approve
from mcti.steps.promote.step import promote
from mcti.steps.register import register
from tests.mlflow_server import running
from tests.registry.factories import Run
from tests.registry.http_client import BIN

SIGNED = PromoteParams(
    min_events=2, bootstrap=100, margin=-1.0, alpha=0.4, ibs_margin=1, calibration_margin=1, group_margin=1,
    max_latency_ratio=100, benchmark_patches=5, approvals=1, signed_approvals=True,
)  # fmt: skip
PASSWORDS = {"admin": "first-password-1", "anna": "second: pässwörd-2"}


def request(uri, path, body=None):
    data = None if body is None else storage.to_json(body).encode()
    credentials = b64encode(f"admin:{PASSWORDS['admin']}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{uri}{path}", data, headers), timeout=600) as response:
        return response.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow with the users admin and anna; its address."""
    folder = tmp_path_factory.mktemp("mlflow with users")
    config = {"default_permission": "MANAGE", "database_uri": f"sqlite:///{folder}/users.db",
              "admin_username": "admin", "admin_password": PASSWORDS["admin"],
              # Otherwise each of about 200 requests takes 0.3 s to compare its password with the hash.
              "auth_cache_ttl_seconds": "3600",
              "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth"}  # fmt: skip
    (folder / "auth.ini").write_text("[mlflow]\n" + "".join(f"{key} = {value}\n" for key, value in config.items()))
    options = ("--app-name", "basic-auth", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
               "--artifacts-destination", str(folder / "artifacts"))  # fmt: skip
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "0123456789"}
    with running(BIN / "mlflow", folder / "log", *options, variables=variables) as uri:
        request(uri, "/api/2.0/mlflow/users/create", {"username": "anna", "password": PASSWORDS["anna"]})
        yield uri


@pytest.fixture
def registered(servers_of, server, tmp_path, monkeypatch):
    """A version of rita in the registry of the server with users; the ledger is in the S3 of the stack."""
    run = Run(tmp_path / "run", patients=40)
    for name, value in (("MLFLOW_TRACKING_URI", server), ("MLFLOW_TRACKING_USERNAME", "admin"),
                        ("MLFLOW_TRACKING_PASSWORD", PASSWORDS["admin"]), ("MCTI_ACTOR", "rita")):  # fmt: skip
        monkeypatch.setenv(name, value)
    params = RegisterParams(name="e-sign", experiment="e-sign")
    register(run.models, run.evaluation, run.validation, params, tmp_path / "r.json")
    monkeypatch.delenv(reauthentication.PASSWORD_FILE, raising=False)
    monkeypatch.setenv(reauthentication.PASSWORD, PASSWORDS["anna"])
    return "e-sign"


@pytest.mark.slow
@pytest.mark.stack
def test_an_approval_is_signed_by_a_user_of_mlflow_and_recorded(registered, server, monkeypatch, caplog, capsys):
    monkeypatch.setenv(reauthentication.PASSWORD, "wrong")
    with pytest.raises(Untrusted, match="MLflow does not accept this password of anna"):
        approve(registered, meaning="approved", user="anna")
    monkeypatch.setenv(reauthentication.PASSWORD, PASSWORDS["admin"])
    with pytest.raises(DataError, match="admin registered this version"):
        approve(registered, meaning="approved")
    monkeypatch.setenv("MCTI_ACTOR", "ben")
    approve(registered)
    with pytest.raises(NotEnoughEvidence, match=r"0 of 1 signed approvals \(none yet\): run `mcti approve --meaning"):
        promote(registered, SIGNED)
    monkeypatch.setenv(reauthentication.PASSWORD, PASSWORDS["anna"])
    result = approve(registered, meaning="reviewed the evaluation, approved", user="anna", signed_only=True)
    assert (result.who, result.approved) == ("anna", ("anna", "ben"))
    assert result.signature.server == server.removeprefix("http://")
    assert promote(registered, SIGNED).outcome == "promote"
    (gate,) = [g for g in show_ledger(registered).entries[-1].evidence["gates"] if g["name"] == "approval"]
    assert gate["numbers"]["approved"] == ["anna"]
    assert gate["numbers"]["signatures"] == [result.signature.model_dump(mode="json")]
    links = {link.value: link for link in lineage.lineage(f"models:/{registered}@champion").links}
    assert (links["anna"].state, links["ben"].state) == ("verified", "recorded")
    assert "reviewed the evaluation, approved" in links["anna"].note
    with tracking.service() as client:
        tags = client.get_model_version(registered, str(result.version)).tags
    texts = [*map(str, tags.items()), caplog.text, *capsys.readouterr()]
    assert not [text for text in texts if PASSWORDS["anna"] in text or PASSWORDS["admin"] in text]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": "anna"}, "--user names the person who signs"),
        ({"signed_only": True}, "promote.signed_approvals is true"),
        ({"meaning": "two\nlines"}, "one line of 1 to 200 characters"),
    ],
)
def test_contradictory_options_are_refused_before_any_request(options, message):
    with pytest.raises(UsageError, match=message):
        approve("e-sign", **options)
