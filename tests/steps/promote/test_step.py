"""promote, rollback and the ledger on a real MLflow and S3."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mcti import s3, storage
from mcti.errors import DataError, NotEnoughEvidence, Rejected, UsageError
from mcti.params import PromoteParams, RegisterParams
from mcti.registry import ledger, models, promotion, tracking
from mcti.registry.evidence import Evidence
from mcti.registry.gates import GateEvaluation
from mcti.steps.ledger import show_ledger, verify_ledger
from mcti.steps.promote.approval import approve
from mcti.steps.promote.step import promote, repair, rollback
from mcti.steps.register import register
from tests.registry.factories import Run

stack = [pytest.mark.slow, pytest.mark.stack]
LAX = PromoteParams(
    min_events=2, bootstrap=100, margin=-1.0, alpha=0.4, ibs_margin=1, calibration_margin=1, group_margin=1,
    max_latency_ratio=100, benchmark_patches=20,
)  # fmt: skip
"""Every valid challenger is promoted: the process is tested here, the numbers of the gates in tests/registry."""
STRICT = LAX.model_copy(update={"margin": 0.0, "alpha": 0.05})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [Run(tmp_path_factory.mktemp("run"), seed=seed, patients=40, regimes=True) for seed in (0, 1)]


def registered(runs, name, tmp_path):
    for run in runs:
        params = RegisterParams(name=name, experiment=name)
        yield register(run.models, run.evaluation, run.validation, params, tmp_path / "r.json")


PROMOTED = GateEvaluation(outcome="promote", reason="in a test", difference=None, gates=())


def promoted_versions(client, name, versions):
    """A model with versions without files, each promoted in turn."""
    client.create_registered_model(name)
    for _ in range(versions):
        version = client.create_model_version(name, source="s3://mcti-mlflow/nothing")
        promotion.decide(client, promotion.verified_entries(client, name), version, PROMOTED, {})


def aliases(name):
    with tracking.service() as client:
        versions = (models.version_by_alias(client, name, alias) for alias in ("champion", "previous"))
        return tuple(None if version is None else int(version.version) for version in versions)


class TestOnServers:
    pytestmark = stack

    def test_less_strict_margins_need_a_reason_that_the_ledger_stores(self, runs, servers_of, tmp_path):
        list(registered(runs[:1], "loose", tmp_path))
        agreed = LAX.model_copy(update={"margin": 0.05})
        with pytest.raises(UsageError, match=r"promote.margin .* \(params.yaml: 0.05\).*--reason"):
            promote("loose", LAX, agreed=agreed)
        assert show_ledger("loose").entries == ()
        assert promote("loose", LAX, agreed=agreed, dry_run=True).ledger_entry is None
        promote("loose", LAX, agreed=agreed, reason="rare subtype, agreed by the board")
        (entry,) = show_ledger("loose").entries
        assert entry.evidence["override_reason"] == "rare subtype, agreed by the board"
        assert entry.evidence["looser"][0].startswith("promote.margin")
        assert "[LOOSER than params.yaml: promote.margin" in show_ledger("loose").lines()[0]

    def test_a_version_worse_than_its_primary_baseline_is_rejected_with_the_numbers_in_message_and_ledger(
        self, servers_of, tmp_path
    ):
        run = Run(tmp_path / "run", patients=40)
        run.add_primary_baseline(risk=-run.time)  # the true order of the events
        list(registered([run], "below", tmp_path))
        with pytest.raises(Rejected, match=r"primary baseline: shown to be worse in C.* than .*Uno's C -0\.\d+ \(-0"):
            promote("below", LAX)
        permitted = LAX.model_copy(update={"baseline_margin": 1.0, "baseline_ibs_margin": 1.0})
        with pytest.raises(UsageError, match=r"promote.baseline_margin 1 .*--reason"):
            promote("below", permitted, agreed=LAX)
        result = promote("below", permitted, agreed=LAX, reason="the baseline needs data that the site lacks")
        gate = next(gate for gate in result.gates if gate.name == "primary baseline")
        assert (gate.verdict, gate.numbers["better"], gate.numbers["margin"]) == ("pass", False, 1.0)
        assert any(line.startswith("  primary baseline: pass: NOT shown to be better") for line in result.lines())
        rejected, promoted = show_ledger("below").entries
        assert rejected.evidence["gates"][1]["numbers"]["worse"][0] == "C"
        assert promoted.evidence["gates"][1]["numbers"] == gate.numbers
        lines = show_ledger("below").lines()
        assert all(line.count("than the primary baseline: Uno's C -0") == 1 for line in lines[:2])

    def test_baselines_that_were_exchanged_after_the_registration_are_detected(self, runs, servers_of, tmp_path):
        run = Run(tmp_path / "run", patients=40)
        run.add_primary_baseline(risk=-run.time)
        known = Evidence.read(run.models, run.evaluation, run.validation).md5
        run.add_primary_baseline(risk=run.time)
        assert Evidence.read(run.models, run.evaluation, run.validation).md5 != known

    def test_predictions_without_a_modality_that_were_exchanged_after_the_registration_are_detected(self, tmp_path):
        run = Run(tmp_path / "run", patients=40, regimes=True)
        known = Evidence.read(run.models, run.evaluation, run.validation).md5
        file = run.models / "fold_0" / "regimes.csv"
        file.write_text(file.read_text().replace("0.", "0.1", 1))
        assert Evidence.read(run.models, run.evaluation, run.validation).md5 != known

    def test_the_same_margins_need_no_reason(self, runs, servers_of, tmp_path):
        list(registered(runs[:1], "agreed", tmp_path))
        promote("agreed", LAX, agreed=LAX)
        (entry,) = show_ledger("agreed").entries
        assert "looser" not in entry.evidence
        assert "LOOSER" not in show_ledger("agreed").lines()[0]

    def test_two_versions_from_registration_to_rollback(self, runs, servers_of, tmp_path):
        first, *_ = steps = registered(runs[:1], "life", tmp_path)
        assert promote("life", LAX, dry_run=True).champion is None
        assert aliases("life") == (None, None)
        assert promote("life", LAX).outcome == "promote"
        assert promote("life", LAX).outcome == "unchanged"
        assert aliases("life") == (1, None)
        list(registered(runs[1:], "life", tmp_path))
        with pytest.raises(
            NotEnoughEvidence, match=r"Uno's C .* against champion version 1, 40 patients.*look 1 of 10"
        ):
            promote("life", STRICT)
        with pytest.raises(Rejected, match="below 1"):
            promote("life", LAX.model_copy(update={"margin": 1.0}))
        assert aliases("life") == (1, None)
        assert promote("life", LAX).champion == 2
        assert aliases("life") == (2, 1)
        assert rollback("life").champion == 1
        assert aliases("life") == (1, None)
        with pytest.raises(DataError, match="no previous champion"):
            rollback("life")
        entries = verify_ledger("life").entries
        actions = ["promote", "not-enough-evidence", "reject", "promote", "rollback"]
        assert [entry.action for entry in entries] == actions
        assert entries[0].evidence["digest"] == first.digest
        assert steps

    def test_the_ledger_contains_every_gate_with_its_numbers_and_the_same_pair_is_one_look(
        self, runs, servers_of, tmp_path
    ):
        list(registered(runs, "gates", tmp_path))
        promote("gates", LAX, version=1)
        for _ in range(2):
            with pytest.raises(NotEnoughEvidence):
                promote("gates", STRICT, version=2)
        first, *refused = show_ledger("gates").entries
        assert "look" not in first.evidence or first.evidence["look"] is None
        assert [entry.evidence["look"]["number"] for entry in refused] == [1, 1]
        gates = {gate["name"]: gate for gate in refused[0].evidence["gates"]}
        statistical = {"superiority", "harrell", "brier score", "calibration", "subtype b", "latency", "memory"}
        assert gates["regime genes"]["numbers"]["events"] == int(runs[0].event.sum())
        assert statistical | {"data contract", "unseen patients"} <= set(gates)
        assert gates["superiority"]["numbers"]["events"] == int(runs[0].event.sum())
        assert gates["latency"]["numbers"]["challenger"] > 0
        assert gates["memory"]["numbers"]["ratio"] == 1  # the same network with other weights

    def test_two_persons_must_approve_what_a_third_registered(self, runs, servers_of, tmp_path, monkeypatch):
        monkeypatch.setenv("MCTI_ACTOR", "rita")
        list(registered(runs[:1], "four-eyes", tmp_path))
        strict = LAX.model_copy(update={"approvals": 2})
        with pytest.raises(NotEnoughEvidence, match=r"0 of 2 approvals \(none yet\)"):
            promote("four-eyes", strict)
        with pytest.raises(DataError, match="rita registered this version"):
            approve("four-eyes")
        for who in ("anna", "anna", "ben"):
            with pytest.raises(NotEnoughEvidence, match="of 2 approvals"):
                promote("four-eyes", strict)
            monkeypatch.setenv("MCTI_ACTOR", who)
            assert who in approve("four-eyes").approved
        assert promote("four-eyes", strict).outcome == "promote"
        assert show_ledger("four-eyes").entries[-1].evidence["gates"][-1]["numbers"]["approved"] == ["anna", "ben"]

    def test_a_failed_contract_and_a_test_patient_in_the_training_reject_also_a_first_champion(
        self, servers_of, tmp_path
    ):
        run = Run(tmp_path / "broken", patients=40, contract="failed")
        list(registered([run], "broken", tmp_path))
        with pytest.raises(Rejected, match="data contract: the cohort fails a critical expectation"):
            promote("broken", LAX)
        spec = run.models / "fold_1" / "model.json"
        tree = json.loads(spec.read_text())
        tested = next(name for name, fold in zip(run.ids, run.fold, strict=True) if fold == 1)
        spec.write_text(json.dumps(tree | {"patients": [*tree["patients"], tested]}, sort_keys=True))
        list(registered([run], "leaky", tmp_path))
        with pytest.raises(Rejected, match="version 1: 1 of 40 test patients were in its training"):
            promote("leaky", LAX)
        assert aliases("leaky") == (None, None)

    def test_a_version_that_register_did_not_make_is_refused(self, servers_of):
        with tracking.service() as client:
            client.create_registered_model("foreign")
            client.create_model_version("foreign", source="s3://mcti-mlflow/nothing")
        with pytest.raises(DataError, match="the version has no evaluation in model foreign, version 1"):
            promote("foreign", LAX, version=1)
        assert show_ledger("foreign").entries == ()

    def test_a_deleted_champion_is_detected_and_replaced_by_the_champion_before(self, runs, servers_of, tmp_path):
        list(registered(runs, "gone", tmp_path))
        promote("gone", LAX, version=1)
        promote("gone", LAX, version=2)
        with tracking.service() as client:
            client.delete_model_version("gone", "2")
        with pytest.raises(DataError, match="version 2, champion in the ledger, was deleted manually"):
            verify_ledger("gone")
        assert len(repair("gone", dry_run=True).repaired) == 1
        assert aliases("gone")[0] is None, "a dry run moves no alias"
        assert repair("gone").champion == 1
        assert aliases("gone") == (1, None)
        last = verify_ledger("gone").entries[-1]
        assert (last.action, last.evidence["deleted"]) == ("repair", {"champion": 2})

    def test_an_alias_that_was_moved_manually_blocks_the_promotion_and_is_repaired(self, runs, servers_of, tmp_path):
        list(registered(runs, "moved", tmp_path))
        promote("moved", LAX, version=1)
        with tracking.service() as client:
            client.set_registered_model_alias("moved", "champion", "2")
        with pytest.raises(DataError, match="alias champion is version 2, in the ledger version 1"):
            verify_ledger("moved")
        with pytest.raises(DataError, match="--repair"):
            promote("moved", LAX, version=1) if aliases("moved")[0] != 2 else rollback("moved")
        assert repair("moved").champion == 1
        assert repair("moved").repaired == ()
        assert aliases("moved") == (1, None)
        assert verify_ledger("moved").faults == ()

    @pytest.mark.parametrize("call", range(4))
    def test_an_interrupted_promotion_is_complete_after_one_repair(self, runs, servers_of, tmp_path, monkeypatch, call):
        name = f"cut-{call}"
        list(registered(runs, name, tmp_path))
        promote(name, LAX, version=1)

        class Killed(BaseException):
            pass

        from mcti.registry.rest_client import RestClient

        calls = {"count": 0}
        originals = {n: getattr(RestClient, n) for n in ("set_registered_model_alias", "set_registered_model_tag")}

        def counted(function):
            def wrapped(self, *arguments, **options):
                if calls["count"] == call:
                    raise Killed
                calls["count"] += 1
                return function(self, *arguments, **options)

            return wrapped

        with monkeypatch.context() as patch:
            for method, function in originals.items():
                patch.setattr(RestClient, method, counted(function))
            killed = False
            try:
                promote(name, LAX, version=2)
            except Killed:
                killed = True
            assert killed is (call < 3)  # previous, champion, head: three calls
        repair(name)
        assert aliases(name) == (2, 1)
        assert verify_ledger(name).faults == ()
        assert len(show_ledger(name).entries) == 2

    def test_a_rollback_skips_deleted_versions(self, servers_of):
        with tracking.service() as client:
            promoted_versions(client, "passed", 4)
            client.delete_model_version("passed", "3")
            with pytest.raises(DataError, match="version 3, previous in the ledger, was deleted manually"):
                verify_ledger("passed")
            client.delete_model_version("passed", "1")
            assert rollback("passed").champion == 2
            assert aliases("passed") == (2, None)
            assert verify_ledger("passed").faults == ()
            with pytest.raises(DataError, match="no previous champion"):
                rollback("passed")

    def test_repair_returns_to_the_last_champion_that_exists(self, servers_of):
        with tracking.service() as client:
            promoted_versions(client, "both", 4)
            for number in ("3", "4"):
                client.delete_model_version("both", number)
            assert len(promotion.repair(client, "both")) == 2
            assert aliases("both") == (2, 1)
            assert verify_ledger("both").faults == ()

    def test_an_alias_that_is_moved_during_the_evaluation_stops_the_promotion(self, servers_of):
        with tracking.service() as client:
            promoted_versions(client, "meanwhile", 2)
            entries = promotion.verified_entries(client, "meanwhile")
            version = models.version_by_number(client, "meanwhile", 1)
            client.set_registered_model_alias("meanwhile", "champion", "1")
            with pytest.raises(DataError, match="alias champion is version 1, in the ledger version 2"):
                promotion.decide(client, entries, version, PROMOTED, {})
            assert ledger.read("meanwhile") == entries

    def test_a_bucket_without_versions_is_reported(self, servers_of, monkeypatch):
        s3.ensure_bucket("plain-ledger")
        monkeypatch.setenv("MCTI_LEDGER", "s3://plain-ledger")
        with tracking.service() as client:
            promoted_versions(client, "plain", 1)
        assert verify_ledger("plain").lines()[-1].startswith("1 entries, 0 faults; the bucket is not versioned")

    def test_an_edited_and_a_deleted_entry_are_detected(self, runs, servers_of, tmp_path):
        list(registered(runs, "edited", tmp_path))
        promote("edited", LAX, version=1)
        promote("edited", LAX, version=2)
        first = storage.addresses(ledger.folder("edited"))[0]
        body = storage.read_bytes(first)
        s3.put(first, body.replace(b'"promote"', b'"reject"', 1))
        with pytest.raises(DataError, match="entry 1 was edited"):
            verify_ledger("edited")
        s3.put(first, body)
        verify_ledger("edited")
        bucket, key = s3.split_address(first)
        s3.client().delete_object(Bucket=bucket, Key=key)
        with pytest.raises(DataError, match="entry 1 is missing"):
            verify_ledger("edited")

    def test_exactly_one_of_24_concurrent_decisions_is_recorded(self, servers_of):
        fields = {"action": "promote", "model": "race", "version": 1, "champion": 1, "previous": None, "evidence": {}}
        entries = []
        for expected in (1, 2):

            def write(_, entries=entries):
                try:
                    return ledger.append(entries, **fields)
                except s3.Conflict:
                    return None

            with ThreadPoolExecutor(24) as pool:
                written = [entry for entry in pool.map(write, range(24)) if entry]
            assert len(written) == 1
            entries = ledger.read("race")
            assert entries[-1] == written[0]
            assert len(entries) == expected
