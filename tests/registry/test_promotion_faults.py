"""MLflow and S3 fail at each request of a promotion: it is complete or not done, after at most one repair."""

from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.httpsession
import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError

from mcti import s3, storage
from mcti.errors import OperationalError
from mcti.params import PromoteParams, RegisterParams
from mcti.registry import ledger, models, promotion, tracking
from mcti.registry.gates import GateEvaluation
from mcti.steps.ledger import show_ledger, verify_ledger
from mcti.steps.promote.step import promote, rollback
from mcti.steps.register import register
from tests.histories import clients
from tests.histories.run import Proxy
from tests.registry.factories import Run

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LAX = PromoteParams(
    min_events=2, bootstrap=100, margin=-1.0, alpha=0.4, ibs_margin=1, calibration_margin=1, group_margin=1,
    max_latency_ratio=100, benchmark_patches=5,
)  # fmt: skip
NAME = "faults"


class Killed(BaseException):
    """The end of the process, as by kill -9: no handler catches it."""


class Wire:
    """Counts the requests of this process to MLflow and S3, and injects a fault at request `at` or from it on."""

    def __init__(self, monkeypatch):
        self.log, self.plan = [], None
        for owner in (requests.Session, botocore.httpsession.URLLib3Session):
            monkeypatch.setattr(owner, "send", self._intercepted(owner.send, owner is requests.Session))

    def _intercepted(self, send, is_mlflow):
        def intercepted(session, request, *arguments, **options):
            self.log.append(request.method)
            if self.plan is None:
                return send(session, request, *arguments, **options)
            at, how = self.plan
            if how == "dead" and len(self.log) > at:
                dead = requests.ConnectionError("gone"), EndpointConnectionError(endpoint_url="gone")
                raise dead[0] if is_mlflow else dead[1]
            if how == "before" and len(self.log) == at + 1:
                raise Killed
            response = send(session, request, *arguments, **options)
            if how == "after" and len(self.log) == at + 1:
                raise Killed
            return response

        return intercepted

    def requests_of(self, action):
        """The methods of the requests that an action makes, in order."""
        self.log.clear()
        action()
        return list(self.log)

    def fail(self, at, how, action):
        """Run the action with a fault at its request number `at`; killed, refused or done."""
        self.log.clear()
        self.plan = (at, how)
        try:
            action()
        except Killed:
            return "killed"
        except OperationalError:
            return "refused"
        finally:
            self.plan = None
        return "done"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [Run(tmp_path_factory.mktemp("run"), seed=seed, patients=40, folds=2) for seed in (0, 1)]


@pytest.fixture
def wire(runs, servers_of, tmp_path, monkeypatch):
    """Version 1 is the champion, version 2 the challenger; all requests pass through the Wire."""
    for run in runs:
        params = RegisterParams(name=NAME, experiment=NAME)
        register(run.models, run.evaluation, run.validation, params, tmp_path / "r.json")
    if not show_ledger(NAME).entries:
        promote(NAME, LAX, version=1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # MLflow sleeps for minutes between its own retries
    return Wire(monkeypatch)


def second():
    return promote(NAME, LAX, version=2)


def state():
    with tracking.service() as client:
        versions = (models.version_by_alias(client, NAME, alias) for alias in ("champion", "previous"))
        return tuple(None if version is None else int(version.version) for version in versions)


def promoted_completely(entries_before):
    """After one repair the promotion is complete (True) or not done; then version 1 is champion again."""
    if show_ledger(NAME).faults:
        with tracking.service() as client:
            promotion.repair(client, NAME)
    result = verify_ledger(NAME)
    whole = state() == (2, 1)
    assert whole or state() == (1, None)
    assert len(result.entries) == entries_before + whole  # entry and promotion exist together, or neither
    if whole:
        rollback(NAME)
    return whole


def test_a_kill_at_any_request_leaves_the_promotion_complete_or_not_done(wire):
    methods = wire.requests_of(second)
    rollback(NAME)
    writes = [number for number, method in enumerate(methods) if method not in ("GET", "HEAD")]
    assert len(writes) >= 4  # ledger entry, two aliases, the head
    # A read is interrupted before or after its response with the same effect; a write may have been received.
    cuts = [(at, "before") for at in range(len(methods))] + [(at, "after") for at in writes]
    outcomes, killed = [], 0
    for at, how in cuts:
        before = len(ledger.read(NAME))
        killed += wire.fail(at, how, second) == "killed"
        outcomes.append(promoted_completely(before))
    assert True in outcomes
    assert False in outcomes
    # The other requests download files in threads of MLflow: a kill there is a failed download.
    assert killed >= 2 * len(writes)


def test_a_service_that_fails_at_any_write_is_one_error_and_the_promotion_is_complete_or_not_done(wire):
    methods = wire.requests_of(second)
    rollback(NAME)
    for at in (number for number, method in enumerate(methods) if method not in ("GET", "HEAD")):
        before = len(ledger.read(NAME))
        assert wire.fail(at, "dead", second) == "refused"
        promoted_completely(before)


@pytest.mark.parametrize("target", ["S3", "MLflow"])
def test_a_connection_that_gets_no_answer_any_more_ends_the_promotion(wire, monkeypatch, target):
    """A partition leaves the connections of an earlier promotion open: the proxy accepts requests and answers none."""
    monkeypatch.setattr(clients, "_SECONDS", 15)  # the requests before the partition are answered in time
    with clients.limited_waiting(), Proxy(1) as proxy:
        for name, value in proxy.environments[0].items():
            monkeypatch.setenv(name, value)
        second()
        rollback(NAME)
        before = len(ledger.read(NAME))
        proxy.set(0, ["S3", "MLflow"].index(target), "cut")
        with pytest.raises(OperationalError, match=f"{target} (does not answer|failed)"):
            second()
        proxy.set(0, ["S3", "MLflow"].index(target), "pass")
        promoted_completely(before)


def test_a_read_only_ledger_stops_the_promotion_before_any_alias_moves(wire, monkeypatch):
    before = len(ledger.read(NAME))
    with monkeypatch.context() as patch:

        def refused(**_):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")

        patch.setattr(s3.client(), "put_object", refused)
        with pytest.raises(OperationalError, match=r"S3 refused the credentials \(AccessDenied\).*ledger"):
            second()
    assert state() == (1, None)
    assert len(ledger.read(NAME)) == before
    assert verify_ledger(NAME).faults == ()


def test_exactly_one_of_24_concurrent_promotions_succeeds_in_each_round(wire):
    """All have evaluated the gates and read the ledger; they write the entry and the aliases at the same time."""
    evaluation = GateEvaluation(outcome="promote", reason="race", difference=None, gates=())
    for _ in range(3):
        with tracking.service() as client:
            entries = promotion.verified_entries(client, NAME)
            champion = state()[0]
            number = 2 if champion == 1 else 1
            version = models.version_by_number(client, NAME, number)

            def one(who, client=client, entries=entries, version=version):
                try:
                    return promotion.decide(client, entries, version, evaluation, {"who": who})
                except s3.Conflict:
                    return None

            with ThreadPoolExecutor(24) as pool:
                written = [entry for entry in pool.map(one, range(24)) if entry]
        assert len(written) == 1
        result = verify_ledger(NAME)
        assert result.entries[-1] == written[0]
        assert len(result.entries) == len(entries) + 1
        assert state() == (number, champion)


def test_the_bucket_keeps_the_entry_before_an_edit(wire):
    address = storage.addresses(ledger.folder(NAME))[0]
    bucket, key = s3.split_address(address)
    body = storage.read_bytes(address)
    s3.put(address, body + b" ")
    versions = boto3.client("s3").list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    old = next(version for version in versions if not version["IsLatest"])
    original = s3.client().get_object(Bucket=bucket, Key=key, VersionId=old["VersionId"])["Body"].read()
    s3.put(address, body)
    assert original == body
    assert verify_ledger(NAME).faults == ()
