"""`make rehearse` on a cluster with faults: each is one row or one line, and dependent steps are not run."""

import pytest

from infra.rehearse import __main__ as rehearsal
from tests.infra.rehearsal import CLUSTER, HOST, as_if_done, calls, only, rehearse, set_state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"no-context": True}, "no current context"),
        ({"away": True}, "does not answer"),
        ({"no-right": "secrets"}, "no right to create secrets"),
        ({"no-right": "priorityclasses"}, "no right to create priorityclasses"),
        ({"not-ready": "ErrImageNeverPull"}, "pod a-pod waits, ErrImageNeverPull: as said: load the image"),
        ({"not-ready": "CreateContainerConfigError"}, "make the Secret"),
        ({"no-storage": True}, "no storage class"),
        ({"kubeflow_in": ["kubeflow"]}, "starts its runs there, not in mcti: RUNS_NAMESPACE=kubeflow"),
        (
            {"missing": [{"state": "missing", "name": "Secret mcti-s3", "detail": "in kubeflow", "hint": "make it"}]},
            "Secret mcti-s3 (in kubeflow: make it)",
        ),
    ],
)
def test_where_something_is_missing_it_stops_with_one_line(edge, capsys, state, words):
    set_state(edge, **state)
    assert rehearse(edge, *HOST, *only("look", "install", "doctor", "submit")) == 4
    printed = capsys.readouterr()
    error = printed.err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    if "no-context" not in state:
        assert "DIFFERS: missing: " in printed.out.rpartition("step ")[2], "the table shows where it stopped"
    assert not [call for call in calls(edge) if call[0] == "mcti" and "submit" in call]


def test_without_an_address_of_kubeflow_or_an_answer_nothing_is_asked_of_the_cluster(edge, capsys):
    assert rehearse(edge) == 4
    assert "no address of Kubeflow Pipelines" in capsys.readouterr().err
    assert rehearsal.main([*HOST, "--folder", str(edge.folder / "rehearsal")]) == 4, "nobody answers yes here"
    assert "nobody agreed" in capsys.readouterr().err
    assert {call[1] for call in calls(edge)} <= {"config"}


def test_a_host_that_is_no_kubeflow_is_seen_before_anything_is_changed(edge, capsys):
    message = {
        "state": "missing",
        "name": "server",
        "detail": "no Kubeflow in http://localhost:8888",
        "hint": "check --host",
    }
    set_state(edge, missing=[message])
    assert rehearse(edge, *HOST, *only("look", "install")) == 4
    assert "no Kubeflow in http://localhost:8888: check --host" in capsys.readouterr().err
    assert not [call for call in calls(edge) if {"apply", "create"} & set(call) and "can-i" not in call]


def test_a_service_that_does_not_become_ready_is_a_row_that_says_why(edge, capsys):
    set_state(edge, **{"not-ready": "ContainerCreating"}, warnings=["exceeded quota: mcti"])
    assert rehearse(edge, *HOST, *only("look", "install")) == 1
    row = capsys.readouterr().out.rpartition("step ")[2]
    assert "statefulset/s3 ready: not within 600 s; pod a-pod is Running (ContainerCreating)" in row
    assert "last warning: exceeded quota: mcti" in row


def test_buckets_that_were_not_made_are_seen(edge, capsys):
    set_state(edge, job_ends="Failed")
    assert rehearse(edge, *HOST, *only("look", "install")) == 1
    assert "job buckets failed" in capsys.readouterr().out


def test_a_second_apply_that_changes_a_stateful_set_is_seen(edge, capsys):
    """kubectl says `configured` of one with claims each time: its generation counts."""
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    set_state(edge, changes=True)
    assert rehearse(edge, *HOST, "--only", "install") == 1
    assert "a second `kubectl apply -k` changed: statefulset.apps/s3 configured" in capsys.readouterr().out


def test_what_a_library_raises_is_a_row_and_what_was_made_is_remembered(edge, monkeypatch, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("recurring")])

    def lost(_):
        raise ConnectionError("the port-forward ended")

    monkeypatch.setattr(edge.kfp, "disable_recurring_run", lost)
    monkeypatch.setattr(edge.kfp, "delete_recurring_run", lost)
    assert rehearse(edge, *HOST, *only("recurring", "backup")) == 1
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "DIFFERS: ConnectionError: the port-forward ended" in table
    assert "\nbackup " in table, "the next step is done"
    assert rehearse(edge, "--clean") == 4, "the schedule is still there"
    assert "recurring run recurring-1 is still there" in capsys.readouterr().err


def test_a_question_that_gets_lost_does_not_end_a_wait(edge, capsys):
    as_if_done(edge, "submit")
    set_state(edge, lost=4)
    assert rehearse(edge, *HOST, "--only", "training") == 0
    set_state(edge, lost=5)
    assert rehearse(edge, *HOST, "--only", "training") == 1
    assert "`mcti pipeline status`: lost in somewhere" in capsys.readouterr().out


def test_without_kubectl_it_says_so(edge, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(edge.folder))
    assert rehearse(edge, *HOST) == 4
    assert "no kubectl" in capsys.readouterr().err
    assert rehearse(edge, "--offline") == 4
    assert "kubectl cannot be started" in capsys.readouterr().err


def test_pods_that_cannot_start_end_the_wait(edge, capsys):
    set_state(edge, problems=["no image x: load it into the node"], pending=True)
    assert rehearse(edge, *HOST, *only("look", "install", "submit")) == 4
    assert "no image x" in capsys.readouterr().err


def test_a_step_that_differs_is_a_row_and_those_that_build_on_it_are_not_done(edge, capsys):
    set_state(edge, ends="FAILED")
    steps = only("look", "install", "submit", "training", "retraining", "backup")
    assert rehearse(edge, *HOST, *steps) == 1
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "DIFFERS: run training-1 ended FAILED: detect-new-data" in table
    assert "not done: needs training" in table
    assert "\nbackup " in table, "what does not build on it is done"
    assert ["retraining"] not in [call for call in calls(edge) if "retraining" in call]
    set_state(edge, ends="SUCCEEDED")
    assert rehearse(edge, *HOST, *only("training", "retraining")) == 0, "resumed with what was made before"


def test_a_restore_spares_the_models_of_others(edge, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("restore")])
    set_state(edge, others="3")
    assert rehearse(edge, *HOST, "--only", "restore") == 4
    assert "3 other models" in capsys.readouterr().err
    assert not [call for call in calls(edge) if "scale" in call]


def test_a_job_that_fails_is_seen(edge, capsys):
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    set_state(edge, job_ends="Failed")
    assert rehearse(edge, *HOST, "--only", "backup") == 1
    assert "job backup-rehearsal-" in capsys.readouterr().out
    assert "delete" in calls(edge)[-1], "and not left behind"


def test_a_key_that_is_still_taken_is_seen(edge, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("rotate")])
    set_state(edge, takes_any_key=True)
    assert rehearse(edge, *HOST, "--only", "rotate") == 1
    assert "the old key of S3 is still taken" in capsys.readouterr().out


def test_an_error_of_one_of_our_commands_is_what_the_step_saw(edge, capsys):
    set_state(edge, fails={"pipeline submit": "Kubeflow Pipelines does not answer"})
    assert rehearse(edge, *HOST, *only("look", "install", "submit")) == 1
    assert "DIFFERS: `mcti pipeline submit`: Kubeflow Pipelines does not answer in somewhere" in capsys.readouterr().out
