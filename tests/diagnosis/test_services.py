"""S3, MLflow and PostgreSQL: real servers, then the faults that a user may have."""

import email.utils
import http.server
import threading
import time

import pytest

from mcti import params, s3
from mcti.diagnosis import services
from mcti.errors import OperationalError
from tests.training.postgres import Server as PostgreSQL

CLOSED = "http://127.0.0.1:1"


@pytest.fixture
def settings():
    return params.load(None, [])


@pytest.fixture
def http_server():
    """A function that starts a server: status, seconds added to its clock; it returns the address."""
    started = []

    def start(status=200, skew=0.0, text="3.17.2"):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response_only(status)
                self.send_header("Date", email.utils.formatdate(time.time() + skew, usegmt=True))
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_POST(self):
                self.do_GET()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.stack
def test_the_services_of_a_running_stack_are_ok(servers_of, monkeypatch):
    settings = params.load(None, ["cluster.remote=s3://mcti-data/dvc"])
    monkeypatch.setenv("MCTI_LEDGER", "s3://mcti-ledger")
    checks = [*services.check_s3(settings), services.check_mlflow(), *services.check_clock(settings)]
    assert {check.state for check in checks} == {"OK"}, [check.line() for check in checks]
    names = ["S3 bucket mcti-data", "S3 bucket mcti-ledger", "MLflow", "clock, S3", "clock, MLflow"]
    assert [check.name for check in checks] == names
    assert checks[2].detail == f"{servers_of.mlflow}, version 3.17.2"


@pytest.mark.stack
def test_an_absent_bucket_and_refused_keys_are_named(servers_of, monkeypatch):
    (missing,) = services.check_s3(params.load(None, ["cluster.remote=s3://no-such-bucket/dvc"]))
    assert (missing.state, missing.hint) == ("missing", "create the bucket, or correct cluster.remote")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush-hush")
    (refused,) = services.check_s3(params.load(None, []))
    assert refused.state == "failed"
    assert "refused the credentials" in refused.detail
    assert "AWS_SECRET_ACCESS_KEY" in refused.hint
    assert "hush" not in refused.line()


def test_without_addresses_nothing_is_needed(settings):
    checks = [*services.check_s3(settings), services.check_mlflow(), services.check_postgresql(None)]
    assert {check.state for check in checks} == {"not configured"}
    assert [check.state for check in services.check_clock(settings)] == ["unknown"]
    assert services.check_postgresql("sqlite:///study.db").state == "not configured"


def test_servers_that_do_not_respond_fail_without_a_retry(settings, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", CLOSED)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush-hush")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED)
    sent = []
    create = s3._create_client
    monkeypatch.setattr(s3, "_create_client", lambda *limits: sent.append(limits) or create(*limits))
    (storage,), tracking = services.check_s3(settings), services.check_mlflow()
    assert storage.state == tracking.state == "failed"
    assert sent == [(1, services.SECONDS, services.SECONDS)]
    assert "stack up" in storage.hint
    assert "stack up" in tracking.hint


def test_a_refusal_of_mlflow_names_the_variables_of_its_credentials(http_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", http_server(401))
    check = services.check_mlflow()
    assert check.state == "failed"
    assert "401" in check.detail
    assert "MLFLOW_TRACKING_USERNAME" in check.hint


def test_another_minor_version_of_mlflow_is_a_warning_and_another_server_fails(http_server, monkeypatch):
    monkeypatch.setattr(services, "_http_servers", lambda _: {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", http_server(text="not MLflow"))
    assert services.check_mlflow().state == "failed"
    assert services._check_mlflow_version(CLOSED, "2.9.0").state == "warning"
    assert services._check_mlflow_version(CLOSED, "3.17.9").state == "OK"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert services.check_mlflow().state == "unknown"


@pytest.mark.parametrize("address", ["localhost:5000", "mlflow.mcti:5000/", "127.0.0.1:5000"])
def test_an_address_without_a_scheme_fails_with_the_whole_address(address, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    check = services.check_mlflow()
    assert (check.state, check.hint) == ("failed", "correct MLFLOW_TRACKING_URI")
    assert f"write http://{address}" in check.detail


@pytest.mark.parametrize(
    ("skew", "state", "words"),
    [(0, "OK", ""), (90, "warning", "s behind"), (-90, "warning", "s ahead of"), (3600, "failed", "s behind")],
)
def test_the_clock_is_compared_with_the_date_of_a_server(http_server, monkeypatch, settings, skew, state, words):
    address = http_server(403, skew)  # a refusal has a date, too
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("//", "//user:hush@"))
    (check,) = services.check_clock(settings)
    assert check.state == state
    assert words in check.detail
    assert "hush" not in check.line()
    assert services.measure_skew(address) == pytest.approx(skew, abs=20)  # a loaded machine may delay the answer


def test_a_server_without_a_clock_is_unknown(settings, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", CLOSED)
    (check,) = services.check_clock(settings)
    assert (check.name, check.state) == ("clock, Kubeflow Pipelines", "unknown")


@pytest.mark.slow
def test_postgresql_is_checked_with_its_version_and_its_rights():
    import psycopg

    with PostgreSQL() as server:
        check = services.check_postgresql(server.url)
        assert check.state == "OK"
        assert check.detail.startswith(f"127.0.0.1:{server.port}/postgres, version ")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'hush'")
        reader = server.url.replace("mcti@", "reader:hush@")
        assert services.check_postgresql(reader).state == "warning"
        absent = services.check_postgresql(reader.replace("/postgres", "/absent"))
        assert absent.state == "failed"
        assert 'database "absent" does not exist' in absent.detail
        assert "hush" not in absent.line()
    assert services.check_postgresql(server.url).state == "failed"


@pytest.mark.parametrize("address", ["http://", "http://host:abc", "http://host:99999", "http://[::1"])
def test_a_malformed_address_is_a_failed_check_and_no_defect(settings, monkeypatch, address):
    for name in ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL_S3", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.setenv(name, address)
    checks = [*services.check_s3(settings), services.check_mlflow(), services.check_kubeflow_address()]
    assert {check.state for check in checks} == {"failed"}
    assert all("address" in check.detail and check.hint for check in checks), [check.line() for check in checks]
    assert [check.detail for check in services.check_clock(settings)] == ["no server to compare the clock with"]


def test_a_malformed_address_of_s3_names_the_variable_in_every_command(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio")
    with pytest.raises(OperationalError, match=r"the address of S3 is invalid .*AWS_ENDPOINT_URL_S3: write http"):
        s3.client()


def test_a_malformed_address_of_postgresql_is_a_failed_check_without_the_password(settings):
    storage = "postgresql://user:secret-word@host:port/db"
    check = services.check_postgresql(storage)
    assert (check.state, check.detail) == ("failed", "the address is invalid")
