"""Missing prerequisites of a cluster, one line per check, with a fake server and a fake kubectl."""

import json

import pytest

from mcti import params
from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.pipelines import doctor, kubectl
from tests.pipelines import fake_kubectl

PATCH = '{"templateDefaults":{"retryStrategy":{"limit":"0","retryPolicy":"Always"}}}'
API = "get deployments -A --field-selector metadata.name=ml-pipeline"


def deployment(*environment):
    """The API server's deployment, as kubectl lists it."""
    containers = [{"env": [{"name": name, "value": value} for name, value in environment]}]
    spec = {"template": {"spec": {"containers": containers}}}
    return {"items": [{"metadata": {"namespace": "kubeflow"}, "spec": spec}]}


def quota(hard, used):
    return {"items": [{"metadata": {"name": "all"}, "status": {"hard": hard, "used": used}}]}


COMPLETE = {
    API: deployment(("COMPILED_PIPELINE_SPEC_PATCH", PATCH)),
    "get namespace kubeflow": {},
    "get secret mcti-s3 -n kubeflow": {"data": {"access_key": "czM=", "secret_key": "aHVzaA=="}},
    "get configmap mcti-services -n kubeflow": {"data": {"s3": "http://s3", "mlflow": "http://mlflow"}},
    "get serviceaccount pipeline-runner -n kubeflow": {},
    "get pvc scratch -n kubeflow": {"status": {"phase": "Bound"}},
    "get resourcequotas -n kubeflow": quota(
        {"requests.cpu": "16", "limits.memory": "64Gi", "pods": "50"}, {"requests.cpu": "2"}
    ),
    "get nodes": {"items": [{"status": {"images": [{"names": ["docker.io/library/mcti-python:0.1.0"]}]}}]},
}


@pytest.fixture
def settings():
    return params.load(None, ["cluster.claims={scratch: /scratch}", "cluster.steps.train={cpu_limit: 6}"])


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A function that changes responses of kubectl: {command: response}; None: the object does not exist."""
    return fake_kubectl.install(tmp_path, monkeypatch, COMPLETE)


def checks(settings, address, namespace=None):
    return {check.name: check for check in doctor.doctor(settings, address, namespace).checks}


def test_a_complete_cluster_passes_every_check(server, cluster, settings):
    diagnosis = doctor.doctor(settings, server[0], None)
    assert {check.state for check in diagnosis.checks} == {"OK"}, diagnosis.lines()
    assert diagnosis.exit_code == 0
    names = [check.name for check in diagnosis.checks]
    assert names == [
        "server", "version", "mode", "access", "experiment", "kubectl", "secret mcti-s3", "configmap mcti-services",
        "account pipeline-runner", "claim scratch", "quota", "image mcti-python:0.1.0", "COMPILED_PIPELINE_SPEC_PATCH",
    ]  # fmt: skip
    assert "hush" not in str(diagnosis)
    assert "aHVzaA==" not in str(diagnosis)


SECRET, CONFIG = "get secret mcti-s3 -n kubeflow", "get configmap mcti-services -n kubeflow"
ACCOUNT, QUOTAS = "get serviceaccount pipeline-runner -n kubeflow", "get resourcequotas -n kubeflow"
FULL = quota({"requests.cpu": "4", "limits.memory": "20Gi"}, {"requests.cpu": "500m", "limits.memory": "8Gi"})
MISSING = {
    "no namespace": ("namespace", {"get namespace kubeflow": None}, "kubectl create namespace kubeflow"),
    "no secret": (
        "secret mcti-s3",
        {SECRET: None},
        "kubectl create secret generic -n kubeflow mcti-s3 --from-literal=access_key=",
    ),
    "no key": ("secret mcti-s3", {SECRET: {"data": {"access_key": ""}}}, "no key secret_key"),
    "no map": ("configmap mcti-services", {CONFIG: None}, "kubectl create configmap -n kubeflow mcti-services"),
    "no account": ("account pipeline-runner", {ACCOUNT: None}, "apply the overlay"),
    "no token": ("account pipeline-runner", {ACCOUNT: {"automountServiceAccountToken": False}}, "mounts no token"),
    "no claim": ("claim scratch", {"get pvc scratch -n kubeflow": None}, "create it: cluster.claims"),
    "no quota": (
        "quota",
        {QUOTAS: FULL},
        "all has 3.5 requests.cpu left, a task requests 4; all has 12884901888 limits.memory left",
    ),
    "no quota for the limits": (
        "quota",
        {QUOTAS: quota({"limits.cpu": "8"}, {"limits.cpu": "5"})},
        "all has 3 limits.cpu left, a task requests 6",
    ),
    "no image": (
        "image mcti-python:0.1.0",
        {"get nodes": {"items": [{"status": {"images": []}}]}},
        "load it into every node",
    ),
    "no patch": (
        "COMPILED_PIPELINE_SPEC_PATCH",
        {API: deployment()},
        "kubectl set env -n kubeflow deployment/ml-pipeline COMPILED_PIPELINE_SPEC_PATCH=",
    ),
    "another patch": (
        "COMPILED_PIPELINE_SPEC_PATCH",
        {API: deployment(("COMPILED_PIPELINE_SPEC_PATCH", PATCH.replace("Always", "OnError")))},
        "retryPolicy is OnError",
    ),
}


@pytest.mark.parametrize(("name", "changed", "words"), MISSING.values(), ids=MISSING)
def test_a_missing_prerequisite_is_one_line_with_a_hint(server, cluster, settings, name, changed, words):
    cluster(changed)
    diagnosis = doctor.doctor(settings, server[0], None)
    (missing,) = [check for check in diagnosis.checks if check.state == "missing"]
    assert missing.name == name
    assert words in missing.line()
    assert diagnosis.exit_code == 4


def test_a_claim_that_is_not_bound_yet_and_an_image_of_a_registry_are_unknown(server, cluster):
    settings = params.load(None, ["cluster.claims={scratch: /scratch}", "cluster.image=registry.example/mcti-python:1"])
    cluster({"get pvc scratch -n kubeflow": {"status": {"phase": "Pending"}}})
    diagnosis = doctor.doctor(settings, server[0], None)
    unknown = [check.name for check in diagnosis.checks if check.state == "unknown"]
    assert unknown == ["claim scratch", "image registry.example/mcti-python:1"]
    assert diagnosis.exit_code == 0


def test_in_multi_user_mode_every_object_is_read_from_the_named_namespace(server, cluster, settings):
    address, state = server
    state.multi_user = True
    responses = {
        key.replace("kubeflow", "alice").replace("pipeline-runner", "default-editor"): v for key, v in COMPLETE.items()
    }
    cluster(responses)
    diagnosis = checks(settings, address, "alice")
    assert {check.state for check in diagnosis.values()} == {"OK"}
    assert "account default-editor" in diagnosis


def test_faults_of_the_server_are_named_and_kubectl_is_still_used(server, cluster, settings):
    address, state = server
    state.version, state.multi_user = "2.16.0", True
    diagnosis = checks(settings, address)
    assert diagnosis["version"].state == diagnosis["mode"].state == "missing"
    state.refuse = 401
    diagnosis = checks(settings, address)
    assert diagnosis["server"].state == "missing"
    assert "refused the request (401)" in diagnosis["server"].detail
    assert diagnosis["secret mcti-s3"].state == "OK"


def test_without_kubectl_only_the_server_is_checked(server, settings, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    diagnosis = checks(settings, server[0])
    assert diagnosis["kubectl"].state == "unknown"
    assert diagnosis["server"].state == "OK"


def test_a_cluster_that_does_not_respond_ends_the_checks(server, cluster, settings, monkeypatch):
    monkeypatch.setattr(doctor, "CALL_SECONDS", 1)
    monkeypatch.setattr(doctor, "SECONDS", 3)
    monkeypatch.setattr(kubectl, "SECONDS", 10)
    cluster({"sleep": 2})
    diagnosis = checks(settings, server[0])
    assert diagnosis["deployment ml-pipeline"].state == "unknown"
    assert "did not answer within 1 s" in diagnosis["deployment ml-pipeline"].detail


def test_the_command_prints_one_line_per_check_and_exits_with_4(server, cluster, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cluster({"get secret mcti-s3 -n kubeflow": None})
    assert run_app(app, ["pipeline", "doctor", "--host", server[0]]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("missing")).startswith("missing  secret mcti-s3: ")
    assert run_app(app, ["pipeline", "doctor", "--host", server[0], "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["checks"][0] == {
        "name": "server", "state": "OK", "detail": server[0], "hint": "",
    }  # fmt: skip


API_OF_CONTEXT = API.replace(" -A", "")
REFUSED = "Error from server (Forbidden): deployments.apps is forbidden: cannot list at the cluster scope"


def test_without_rights_for_all_namespaces_that_of_the_context_is_read(server, cluster, settings):
    cluster({API: REFUSED, API_OF_CONTEXT: COMPLETE[API]})
    by_name = checks(settings, server[0])
    assert by_name["COMPILED_PIPELINE_SPEC_PATCH"].state == by_name["secret mcti-s3"].state == "OK"
    cluster({API: REFUSED, API_OF_CONTEXT: {"items": []}})
    deployment_check = checks(settings, server[0])["deployment ml-pipeline"]
    assert (deployment_check.state, deployment_check.detail) == ("unknown", REFUSED)
    assert "with --namespace" in deployment_check.hint
    cluster({API: REFUSED, API_OF_CONTEXT.replace("deployments", "deployments -n kubeflow"): COMPLETE[API]})
    assert checks(settings, server[0], "kubeflow")["COMPILED_PIPELINE_SPEC_PATCH"].state == "OK"


def test_mcti_doctor_checks_the_server_and_its_version(server, settings):
    address, state = server
    assert [(c.name, c.state) for c in doctor.check_server(settings.cluster, address)] == [
        ("server", "OK"), ("version", "OK"),
    ]  # fmt: skip
    state.version = "2.16.0"
    assert doctor.check_server(settings.cluster, address)[1].state == "missing"
    state.refuse = 401
    (refused,) = doctor.check_server(settings.cluster, address)
    assert (refused.state, "401" in refused.detail) == ("missing", True)
