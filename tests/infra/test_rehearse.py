"""`make rehearse`: order of the steps, resumption, deletion, namespaces."""

import base64
import json
import os

import yaml

from infra.rehearse import __main__ as rehearsal
from infra.rehearse.steps import STEPS
from tests.infra.rehearsal import CLUSTER, HOST, calls, complete_steps, index_of_call, only, rehearse, set_state


def test_every_step_succeeds_on_a_cluster(full_rehearsal):
    printed = full_rehearsal.printed
    assert full_rehearsal.code == 0, printed
    table = printed[printed.index("step ") :]
    assert "DIFFERS" not in table
    for name in CLUSTER:
        assert f"\n{name} " in table
    assert printed.index("context                rehearsal") < printed.index("[1/"), (
        "the announcement is printed before the first step"
    )
    assert "replaces every database of PostgreSQL" in printed[: printed.index("[1/")]


def test_the_calls_have_the_order_of_the_runbook(full_rehearsal):
    fake_cluster = full_rehearsal.fake_cluster
    order = [
        index_of_call(fake_cluster, "kubectl", "version"),
        index_of_call(fake_cluster, "mcti", "doctor"),  # the check of HOST, before any change
        index_of_call(fake_cluster, "create", "namespace"),
        index_of_call(fake_cluster, "apply", "-f"),
        index_of_call(fake_cluster, "apply", "-k"),
        index_of_call(fake_cluster, "mcti", "publish"),
        index_of_call(fake_cluster, "mcti", "submit", "training"),
        index_of_call(fake_cluster, "delete", "pod", "--force"),
        index_of_call(fake_cluster, "mcti", "submit", "retraining"),
        index_of_call(fake_cluster, "mcti", "submit", "inference"),
        index_of_call(fake_cluster, "mcti", "schedule"),
        index_of_call(fake_cluster, "rollout", "restart", "statefulset/s3"),
        index_of_call(fake_cluster, "create", "job", "--from=cronjob/backup"),
        index_of_call(fake_cluster, "scale", "--replicas=0"),
        index_of_call(fake_cluster, "create", "job", "--from=cronjob/mlflow-migrate"),
    ]
    assert order == sorted(order)
    assert fake_cluster.kfp.calls[-2:] == [("disable", "recurring-1"), ("delete", "recurring-1")]
    for call in calls(fake_cluster):
        if call[0] == "kubectl" and call[1] != "config":
            assert call[1:3] == ["--context", "rehearsal"], "never the current context of the user"


def test_no_command_line_and_no_file_of_the_rehearsal_contains_a_key_or_password(full_rehearsal):
    fake_cluster = full_rehearsal.fake_cluster
    secrets = json.loads((fake_cluster.folder / "state.json").read_text(encoding="utf-8"))["secret"]
    values = [base64.b64decode(secrets[name]["data"][key]).decode() for name, key in
              (("mcti-s3", "secret_key"), ("mcti-postgresql", "password"))]  # fmt: skip
    texts = [(fake_cluster.folder / "log").read_text(encoding="utf-8")]
    texts += [
        path.read_text(encoding="utf-8") for path in (fake_cluster.folder / "rehearsal").rglob("*") if path.is_file()
    ]
    assert all(len(value) >= 20 for value in values)
    assert not [value for value in values for text in texts if value in text]


def test_mcti_commands_use_the_context_of_the_rehearsal(fake_cluster, monkeypatch):
    """They use kubectl's current context, which KUBECONFIG sets."""
    monkeypatch.setenv("KUBECONFIG", "/srv/kubernetes/config")
    assert rehearse(fake_cluster, *HOST, "--context", "other", *only("look", "install", "doctor")) == 0
    path = fake_cluster.folder / "rehearsal/context.yaml"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["current-context"] == "other"
    environment = json.loads((fake_cluster.folder / "state.json").read_text(encoding="utf-8"))["kubeconfig"]
    assert environment == f"{path}{os.pathsep}/srv/kubernetes/config"


def test_the_killed_pod_belongs_to_a_task_with_retries(fake_cluster):
    complete_steps(fake_cluster, "submit")
    assert rehearse(fake_cluster, *HOST, "--only", "kill-task") == 0
    (deleted,) = [call for call in calls(fake_cluster) if "--force" in call]
    assert "run-retry-system-container-impl-3" in deleted


def test_a_rehearsal_resumes_at_a_step(fake_cluster, capsys):
    complete_steps(fake_cluster, *CLUSTER[: CLUSTER.index("backup")])
    capsys.readouterr()
    assert rehearse(fake_cluster, *HOST, "--from", "backup") == 0
    assert not [call for call in calls(fake_cluster) if "submit" in call]
    assert "\ntraining " in capsys.readouterr().out, "the table shows earlier results"


def test_created_objects_are_deleted_only_with_clean(fake_cluster):
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    assert not [call for call in calls(fake_cluster) if "pvc" in call or ("namespace" in call and "delete" in call)]
    assert rehearse(fake_cluster, "--clean") == 0
    assert "namespace" in calls(fake_cluster)[-1], "the rehearsal created it"


def test_objects_that_others_create_after_a_clean_are_kept(fake_cluster):
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    assert rehearse(fake_cluster, "--clean") == 0
    set_state(fake_cluster, namespace={"mcti": {}})  # created by another user, for example for Kubeflow
    assert rehearse(fake_cluster, *HOST, "--only", "backup") == 1, "the step needs `install`, whose result was removed"
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    assert rehearse(fake_cluster, "--clean") == 0
    assert len([call for call in calls(fake_cluster) if call[-4:-1] == ["delete", "namespace", "mcti"]]) == 1


def test_a_rehearsal_from_the_beginning_shows_no_row_of_an_earlier_one(fake_cluster, monkeypatch, capsys):
    complete_steps(fake_cluster, *CLUSTER)
    monkeypatch.setattr(rehearsal, "STEPS", tuple(step for step in STEPS if step.name in CLUSTER))
    set_state(fake_cluster, away=True)
    capsys.readouterr()
    assert rehearse(fake_cluster, *HOST) == 4
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "\nlook " in table
    assert "\ntraining " not in table


def test_existing_services_and_secrets_are_kept(fake_cluster, capsys):
    set_state(fake_cluster, namespace={"mcti": {}}, statefulset={"postgresql": {}})
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    assert rehearse(fake_cluster, "--clean") == 4
    assert "existed before the rehearsal" in capsys.readouterr().err
    assert not [call for call in calls(fake_cluster) if "delete" in call and not {"job", "can-i"} & set(call)]


def test_an_existing_namespace_is_kept(fake_cluster):
    set_state(fake_cluster, namespace={"mcti": {}})
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    assert rehearse(fake_cluster, "--clean") == 0
    deleted = [call for call in calls(fake_cluster) if "delete" in call]
    assert not [call for call in deleted if "namespace" in call]
    assert [call for call in deleted if "data-postgresql-0" in call]


def test_secrets_and_addresses_are_copied_to_the_namespace_of_the_runs(fake_cluster):
    assert (
        rehearse(fake_cluster, *HOST, "--runs-namespace", "kubeflow", *only("look", "install", "submit", "kill-task"))
        == 0
    )
    applied = [call for call in calls(fake_cluster) if call[1:5] == ["--context", "rehearsal", "-n", "kubeflow"]]
    assert len([call for call in applied if "apply" in call]) == 3, "two Secrets and the ConfigMap"
    (submit,) = [call for call in calls(fake_cluster) if "submit" in call]
    assert "--namespace" not in submit, "a standalone Kubeflow has no option for the namespace"
    assert [call for call in applied if "delete" in call and "pod" in call]


def test_with_profiles_a_run_names_its_namespace(fake_cluster):
    assert rehearse(fake_cluster, *HOST, "--multi-user", *only("look", "install", "submit")) == 0
    (submit,) = [call for call in calls(fake_cluster) if "submit" in call]
    assert submit[submit.index("--namespace") + 1] == "mcti"
