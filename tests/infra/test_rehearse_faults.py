"""`make rehearse` on a cluster with faults: each is one row or one error line, and dependent steps are not run."""

import pytest

from infra.rehearse import __main__ as rehearsal
from infra.rehearse import shell
from tests.infra.rehearsal import CLUSTER, HOST, Clock, calls, complete_steps, only, rehearse, set_state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"no-context": True}, "no current context"),
        ({"away": True}, "does not respond"),
        ({"no-right": "secrets"}, "no right to create secrets"),
        ({"no-right": "priorityclasses"}, "no right to create priorityclasses"),
        ({"not-ready": "ErrImageNeverPull"}, "pod a-pod waits, ErrImageNeverPull: no such image: load the image"),
        ({"not-ready": "CreateContainerConfigError"}, "create the Secret"),
        ({"no-storage": True}, "no storage class"),
        (
            {"kubeflow_in": ["kubeflow"]},
            "in its namespace kubeflow, not in mcti: set RUNS_NAMESPACE=kubeflow",
        ),
        (
            {"missing": [{"state": "missing", "name": "Secret mcti-s3", "detail": "in kubeflow", "hint": "make it"}]},
            "Secret mcti-s3 (in kubeflow: make it)",
        ),
    ],
)
def test_a_missing_requirement_ends_the_rehearsal_with_one_line(fake_cluster, capsys, state, words):
    set_state(fake_cluster, **state)
    assert rehearse(fake_cluster, *HOST, *only("look", "install", "doctor", "submit")) == 4
    printed = capsys.readouterr()
    error = printed.err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    if "no-context" not in state:
        assert "DIFFERS: missing: " in printed.out.rpartition("step ")[2], "the table shows the failed step"
    assert not [call for call in calls(fake_cluster) if call[0] == "mcti" and "submit" in call]


def test_without_an_address_of_kubeflow_or_a_confirmation_the_cluster_gets_no_request(fake_cluster, capsys):
    assert rehearse(fake_cluster) == 4
    assert "no address of Kubeflow Pipelines" in capsys.readouterr().err
    assert rehearsal.main([*HOST, "--folder", str(fake_cluster.folder / "rehearsal")]) == 4, (
        "standard input is no terminal"
    )
    assert "was not confirmed" in capsys.readouterr().err
    assert {call[1] for call in calls(fake_cluster)} <= {"config"}


def test_a_host_without_kubeflow_is_detected_before_any_change(fake_cluster, capsys):
    check = {
        "state": "missing",
        "name": "server",
        "detail": "no Kubeflow in http://localhost:8888",
        "hint": "check --host",
    }
    set_state(fake_cluster, missing=[check])
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 4
    assert "no Kubeflow in http://localhost:8888: check --host" in capsys.readouterr().err
    assert not [call for call in calls(fake_cluster) if {"apply", "create"} & set(call) and "can-i" not in call]


def test_the_row_of_a_service_that_is_not_ready_has_the_reason(fake_cluster, monkeypatch, capsys):
    monkeypatch.setattr(shell, "time", Clock(60))  # ten requests instead of hundreds, each of which is a process
    set_state(fake_cluster, **{"not-ready": "ContainerCreating"}, warnings=["exceeded quota: mcti"])
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 1
    row = capsys.readouterr().out.rpartition("step ")[2]
    assert "statefulset/s3 ready: not within 600 s; pod a-pod is Running (ContainerCreating)" in row
    assert "last warning: exceeded quota: mcti" in row


def test_a_failed_job_of_the_buckets_is_reported(fake_cluster, capsys):
    set_state(fake_cluster, job_ends="Failed")
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 1
    assert "job buckets failed" in capsys.readouterr().out


def test_a_second_apply_that_changes_a_stateful_set_is_reported(fake_cluster, capsys):
    """kubectl prints `configured` for a StatefulSet with claims each time; only its generation shows a change."""
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    set_state(fake_cluster, changes=True)
    assert rehearse(fake_cluster, *HOST, "--only", "install") == 1
    assert "a second `kubectl apply -k` changed: statefulset.apps/s3 configured" in capsys.readouterr().out


def test_an_error_of_a_library_is_a_row_and_created_objects_are_stored(fake_cluster, monkeypatch, capsys):
    complete_steps(fake_cluster, *CLUSTER[: CLUSTER.index("recurring")])

    def fail(_):
        raise ConnectionError("the port-forward ended")

    monkeypatch.setattr(fake_cluster.kfp, "disable_recurring_run", fail)
    monkeypatch.setattr(fake_cluster.kfp, "delete_recurring_run", fail)
    assert rehearse(fake_cluster, *HOST, *only("recurring", "backup")) == 1
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "DIFFERS: ConnectionError: the port-forward ended" in table
    assert "\nbackup " in table, "the next step is run"
    assert rehearse(fake_cluster, "--clean") == 4, "the schedule still exists"
    assert "recurring run recurring-1 still exists" in capsys.readouterr().err


def test_failed_requests_do_not_end_a_wait_before_the_fifth(fake_cluster, capsys):
    complete_steps(fake_cluster, "submit")
    set_state(fake_cluster, lost=4)
    assert rehearse(fake_cluster, *HOST, "--only", "training") == 0
    set_state(fake_cluster, lost=5)
    assert rehearse(fake_cluster, *HOST, "--only", "training") == 1
    assert "`mcti pipeline status`: lost in somewhere" in capsys.readouterr().out


def test_a_missing_kubectl_is_an_error(fake_cluster, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(fake_cluster.folder))
    assert rehearse(fake_cluster, *HOST) == 4
    assert "no kubectl" in capsys.readouterr().err
    assert rehearse(fake_cluster, "--offline") == 4
    assert "kubectl cannot be started" in capsys.readouterr().err


def test_pods_that_cannot_start_end_the_wait(fake_cluster, capsys):
    set_state(fake_cluster, problems=["no image x: load it into the node"], pending=True)
    assert rehearse(fake_cluster, *HOST, *only("look", "install", "submit")) == 4
    assert "no image x" in capsys.readouterr().err


def test_steps_that_depend_on_a_failed_step_are_not_run(fake_cluster, capsys):
    set_state(fake_cluster, ends="FAILED")
    steps = only("look", "install", "submit", "training", "retraining", "backup")
    assert rehearse(fake_cluster, *HOST, *steps) == 1
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "DIFFERS: run training-1 ended FAILED: detect-new-data" in table
    assert "not run: needs training" in table
    assert "\nbackup " in table, "independent steps are run"
    assert ["retraining"] not in [call for call in calls(fake_cluster) if "retraining" in call]
    set_state(fake_cluster, ends="SUCCEEDED")
    assert rehearse(fake_cluster, *HOST, *only("training", "retraining")) == 0, "resumed with the earlier facts"


def test_a_restore_is_refused_where_other_models_are_registered(fake_cluster, capsys):
    complete_steps(fake_cluster, *CLUSTER[: CLUSTER.index("restore")])
    set_state(fake_cluster, others="3")
    assert rehearse(fake_cluster, *HOST, "--only", "restore") == 4
    assert "3 other models" in capsys.readouterr().err
    assert not [call for call in calls(fake_cluster) if "scale" in call]


def test_a_failed_job_is_reported_and_deleted(fake_cluster, capsys):
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    set_state(fake_cluster, job_ends="Failed")
    assert rehearse(fake_cluster, *HOST, "--only", "backup") == 1
    assert "job backup-rehearsal-" in capsys.readouterr().out
    assert "delete" in calls(fake_cluster)[-1], "the job is deleted"


def test_an_old_key_that_is_still_accepted_is_reported(fake_cluster, capsys):
    complete_steps(fake_cluster, *CLUSTER[: CLUSTER.index("rotate")])
    set_state(fake_cluster, takes_any_key=True)
    assert rehearse(fake_cluster, *HOST, "--only", "rotate") == 1
    assert "S3 still accepts the old key" in capsys.readouterr().out


def test_an_error_of_an_mcti_command_is_the_result_of_the_step(fake_cluster, capsys):
    set_state(fake_cluster, fails={"pipeline submit": "Kubeflow Pipelines does not answer"})
    assert rehearse(fake_cluster, *HOST, *only("look", "install", "submit")) == 1
    assert "DIFFERS: `mcti pipeline submit`: Kubeflow Pipelines does not answer in somewhere" in capsys.readouterr().out
