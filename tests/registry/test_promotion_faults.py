"""MLflow and S3 failing at every single request of a promotion: whole, or not at all, after at most one repair."""

from concurrent.futures import ThreadPoolExecutor

import botocore.httpsession
import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError

from mcti import s3, storage
from mcti.errors import OperationalError
from mcti.params import PromoteParams, RegisterParams
from mcti.registry import ledger, models, promotion, tracking
from mcti.registry.gates import GateEvaluation
from mcti.steps.promote.step import promote, rollback, show_ledger, verify_ledger
from mcti.steps.register import register
from tests.registry.factories import Run

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LAX = PromoteParams(
    min_events=2, bootstrap=100, margin=-1.0, alpha=0.4, ibs_margin=1, calibration_margin=1, group_margin=1,
    max_latency_ratio=100, benchmark_patches=5,
)  # fmt: skip
NAME = "faults"


class Killed(BaseException):
    """The end of the process, as kill -9 makes it: nothing catches it."""


class Wire:
    """Every request of this process to MLflow and S3, counted; what happens at request `at` and after it."""

    def __init__(self, monkeypatch):
        self.log, self.plan = [], None
        for owner in (requests.Session, botocore.httpsession.URLLib3Session):
            monkeypatch.setattr(owner, "send", self._watched(owner.send, owner is requests.Session))

    def _watched(self, send, is_mlflow):
        def tracking_enabled(session, request, *arguments, **named):
            self.log.append(request.method)
            if self.plan is None:
                return send(session, request, *arguments, **named)
            at, how = self.plan
            if how == "dead" and len(self.log) > at:
                dead = requests.ConnectionError("gone"), EndpointConnectionError(endpoint_url="gone")
                raise dead[0] if is_mlflow else dead[1]
            if how == "before" and len(self.log) == at + 1:
                raise Killed
            answer = send(session, request, *arguments, **named)
            if how == "after" and len(self.log) == at + 1:
                raise Killed
            return answer

        return tracking_enabled

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
    return [Run(tmp_path_factory.mktemp("run"), seed=seed, patients=40) for seed in (0, 1)]


@pytest.fixture
def wire(runs, servers_of, tmp_path, monkeypatch):
    """Version 1 is champion, version 2 the challenger; `wire` stands in every line."""
    for run in runs:
        params = RegisterParams(name=NAME, experiment=NAME)
        register(run.models, run.evaluation, params, tmp_path / "r.json", run.validation)
    if not show_ledger(NAME).entries:
        promote(NAME, LAX, version=1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # MLflow sleeps for minutes between its own retries
    return Wire(monkeypatch)


def second():
    return promote(NAME, LAX, version=2)


def state():
    with tracking.service() as client:
        found = (models.version_by_alias(client, NAME, alias) for alias in ("champion", "previous"))
        return tuple(None if version is None else int(version.version) for version in found)


def settled(lines_before):
    """One repair, then: not at all or fully; back to version 1. True when it was promoted."""
    if show_ledger(NAME).faults:
        with tracking.service() as client:
            promotion.hint(client, NAME)  # what `mcti promote --repair` does first
    told = verify_ledger(NAME)
    whole = state() == (2, 1)
    assert whole or state() == (1, None)
    assert len(told.entries) == lines_before + whole  # a promotion without its line, or a line without its promotion
    if whole:
        rollback(NAME)
    return whole


def test_a_kill_at_any_request_leaves_it_whole_or_not_done(wire):
    methods = wire.requests_of(second)
    rollback(NAME)
    writes = [number for number, method in enumerate(methods) if method not in ("GET", "HEAD")]
    assert len(writes) >= 4  # ledger line, two aliases, the head
    # A read killed before or after its answer is one and the same; a write may have arrived.
    cuts = [(at, "before") for at in range(len(methods))] + [(at, "after") for at in writes]
    outcomes, killed = [], 0
    for at, how in cuts:
        before = len(ledger.read(NAME))
        killed += wire.fail(at, how, second) == "killed"
        outcomes.append(settled(before))
    assert True in outcomes
    assert False in outcomes
    # The rest are files, which MLflow fetches in threads of its own: a kill there is a file that did not come.
    assert killed >= 2 * len(writes)


def test_a_service_that_dies_at_any_write_is_one_clear_error_and_leaves_it_whole_or_not_done(wire):
    methods = wire.requests_of(second)
    rollback(NAME)
    for at in (number for number, method in enumerate(methods) if method not in ("GET", "HEAD")):
        before = len(ledger.read(NAME))
        assert wire.fail(at, "dead", second) == "refused"
        settled(before)


def test_a_ledger_that_may_only_be_read_stops_the_promotion_before_anything_moves(wire, monkeypatch):
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


def test_of_24_promotions_at_once_exactly_one_wins_each_round_and_none_is_lost(wire):
    """Each has judged and read the ledger; all go for the line and the aliases in the same moment."""
    judgement = GateEvaluation(outcome="promote", reason="race", lead=None, gates=())
    for _ in range(3):
        with tracking.service() as client:
            lines = promotion.checked(client, NAME)
            champion = state()[0]
            version = 2 if champion == 1 else 1

            def one(who, client=client, lines=lines, version=version):
                try:
                    return promotion.decide(client, lines, NAME, version, judgement, {"who": who})
                except s3.Conflict:
                    return None

            with ThreadPoolExecutor(24) as pool:
                won = [line for line in pool.map(one, range(24)) if line]
        assert len(won) == 1
        told = verify_ledger(NAME)
        assert told.entries[-1] == won[0]
        assert len(told.entries) == len(lines) + 1
        assert state() == (version, champion)


def test_the_ledger_keeps_what_an_edit_hides(wire):
    address = storage.addresses(ledger.folder(NAME))[0]
    bucket, key = s3.split_address(address)
    body = storage.read_bytes(address)
    s3.put(address, body + b" ")
    kept = s3.client().list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    old = next(version for version in kept if not version["IsLatest"])
    found = s3.client().get_object(Bucket=bucket, Key=key, VersionId=old["VersionId"])["Body"].read()
    s3.put(address, body)
    assert found == body
    assert verify_ledger(NAME).faults == ()
