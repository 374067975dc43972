"""promote, rollback and the ledger on a real MLflow and S3."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_censored

from mcti import storage
from mcti.errors import DataError, NotEnoughEvidence, Rejected
from mcti.params import PromoteParams, RegisterParams
from mcti.registry import ledger, models, promotion, tracking
from mcti.steps.promote import lead, promote, rollback, show_ledger, verify_ledger
from mcti.steps.register import register
from tests.registry.made import Run

stack = [pytest.mark.slow, pytest.mark.stack]
LAX = PromoteParams(min_events=2, bootstrap=100, margin=-1.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [Run(tmp_path_factory.mktemp("run"), seed=seed) for seed in (0, 1)]


def registered(runs, name, tmp_path):
    for run in runs:
        yield register(run.models, run.evaluation, RegisterParams(name=name, experiment=name), tmp_path / "r.json")


def aliases(name):
    with tracking.service() as client:
        found = (models.by_alias(client, name, alias) for alias in ("champion", "previous"))
        return tuple(None if version is None else int(version.version) for version in found)


def table(risk, time, event, fold):
    return pd.DataFrame(
        {"patient_id": [f"P{i:03d}" for i in range(len(risk))], "fold": fold, "risk": risk, "time_months": time,
         "event": event.astype(int)}
    )  # fmt: skip


def test_the_lead_is_the_difference_of_concordances_on_common_patients():
    """Oracle: concordance_index_censored of scikit-survival 0.28.0; one fold, so no pooling question arises."""
    draw = np.random.default_rng(2)
    time, event = draw.exponential(30, 120), draw.random(120) < 0.6
    good, bad = -time + draw.normal(0, 10, 120), draw.normal(size=120)
    ours, theirs = table(good, time, event, 0), table(bad, time, event, 0).iloc[20:]
    found = lead(ours, theirs, "x", PromoteParams(bootstrap=100))
    kept = slice(20, None)
    c = [concordance_index_censored(event[kept], time[kept], risk[kept])[0] for risk in (good, bad)]
    assert found.patients == 100
    assert found.events == event[kept].sum()
    assert found.value == pytest.approx(c[0] - c[1], abs=1e-12)
    assert found.low < found.value < found.high


def test_a_better_model_is_promoted_a_worse_one_rejected_and_an_equal_one_left_open():
    draw = np.random.default_rng(4)
    time, event = draw.exponential(30, 300), draw.random(300) < 0.7
    good, bad = -time + draw.normal(0, 5, 300), draw.normal(size=300)
    params = PromoteParams(bootstrap=200)
    outcomes = [
        promotion.judge(lead(table(a, time, event, 0), table(b, time, event, 0), "x", params), params).outcome
        for a, b in ((good, bad), (bad, good), (good, good))
    ]
    assert outcomes == ["promote", "reject", "not-enough-evidence"]


def test_no_common_patient_is_not_enough_evidence():
    draw = np.random.default_rng(1)
    ours = table(draw.normal(size=9), draw.exponential(9, 9), np.ones(9, dtype=bool), 0)
    theirs = ours.assign(patient_id=[f"Q{i}" for i in range(9)])
    assert promotion.judge(lead(ours, theirs, "x", PromoteParams()), PromoteParams()).outcome == "not-enough-evidence"


class TestOnServers:
    pytestmark = stack

    def test_the_whole_life_of_two_versions(self, runs, servers_of, tmp_path):
        first, *_ = steps = registered(runs[:1], "life", tmp_path)
        assert promote("life", LAX, dry_run=True).champion is None
        assert aliases("life") == (None, None)
        assert promote("life", LAX).outcome == "promote"
        assert promote("life", LAX).outcome == "unchanged"
        assert aliases("life") == (1, None)
        list(registered(runs[1:], "life", tmp_path))
        with pytest.raises(NotEnoughEvidence, match=r"C-index .* against champion version 1, 12 patients"):
            promote("life", PromoteParams(min_events=2, bootstrap=100))
        with pytest.raises(Rejected, match="below 1"):
            promote("life", PromoteParams(min_events=2, bootstrap=100, margin=1.0))
        assert aliases("life") == (1, None)
        assert promote("life", LAX).champion == 2
        assert aliases("life") == (2, 1)
        assert rollback("life").champion == 1
        assert aliases("life") == (1, None)
        with pytest.raises(DataError, match="no previous champion"):
            rollback("life")
        told = verify_ledger("life").entries
        actions = ["promote", "not-enough-evidence", "reject", "promote", "rollback"]
        assert [line.action for line in told] == actions
        assert told[0].evidence["digest"] == first.digest
        assert steps

    def test_an_alias_moved_by_hand_is_found_blocks_promotion_and_is_mended(self, runs, servers_of, tmp_path):
        list(registered(runs, "hand", tmp_path))
        promote("hand", LAX, version=1)
        with tracking.service() as client:
            client.set_registered_model_alias("hand", "champion", "2")
        with pytest.raises(DataError, match="alias champion is version 2, the ledger says 1"):
            verify_ledger("hand")
        with pytest.raises(DataError, match="--repair"):
            promote("hand", LAX, version=1) if aliases("hand")[0] != 2 else rollback("hand")
        assert promote("hand", LAX, version=1, repair=True).outcome == "unchanged"
        assert aliases("hand") == (1, None)
        assert verify_ledger("hand").faults == ()

    @pytest.mark.parametrize("call", range(4))
    def test_a_promotion_cut_anywhere_is_whole_after_one_repair(self, runs, servers_of, tmp_path, monkeypatch, call):
        name = f"cut-{call}"
        list(registered(runs, name, tmp_path))
        promote(name, LAX, version=1)

        class Killed(BaseException):
            pass

        from mlflow import MlflowClient

        made = {"count": 0}
        kept = {n: getattr(MlflowClient, n) for n in ("set_registered_model_alias", "set_registered_model_tag")}

        def counted(function):
            def wrapped(self, *arguments, **named):
                if made["count"] == call:
                    raise Killed
                made["count"] += 1
                return function(self, *arguments, **named)

            return wrapped

        with monkeypatch.context() as patch:
            for method, function in kept.items():
                patch.setattr(MlflowClient, method, counted(function))
            try:
                promote(name, LAX, version=2)
            except Killed:
                pass
            else:
                assert call == 3  # previous, champion, head: three calls, all survived
        promote(name, LAX, version=2, repair=True)
        assert aliases(name) == (2, 1)
        assert verify_ledger(name).faults == ()
        assert len(show_ledger(name).entries) == 2

    def test_an_edited_and_a_deleted_line_are_found(self, runs, servers_of, tmp_path):
        list(registered(runs, "edited", tmp_path))
        promote("edited", LAX, version=1)
        promote("edited", LAX, version=2)
        first = storage.addresses(ledger.folder("edited"))[0]
        body = storage.read_bytes(first)
        storage.put(first, body.replace(b'"promote"', b'"reject"', 1))
        with pytest.raises(DataError, match="line 1 was edited"):
            verify_ledger("edited")
        storage.put(first, body)
        verify_ledger("edited")
        bucket, key = storage.split_address(first)
        storage.client().delete_object(Bucket=bucket, Key=key)
        with pytest.raises(DataError, match="line 1 is missing"):
            verify_ledger("edited")

    def test_of_24_decisions_at_once_exactly_one_gets_the_line(self, servers_of):
        fields = {"action": "promote", "model": "race", "version": 1, "champion": 1, "previous": None, "evidence": {}}
        lines = []
        for expected in (1, 2):

            def write(_, lines=lines):
                try:
                    return ledger.append(lines, **fields)
                except storage.Conflict:
                    return None

            with ThreadPoolExecutor(24) as pool:
                won = [line for line in pool.map(write, range(24)) if line]
            assert len(won) == 1
            lines = ledger.read("race")
            assert lines[-1] == won[0]
            assert len(lines) == expected
