"""Pods as the API server, the kubelet and Argo handle them: identity, probes, images, priorities."""

import re
from pathlib import Path

import pytest

from tests.infra.manifests import KUBERNETES, OVERLAYS, containers, kustomize, named, pods, with_components

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# PostgreSQL's programs read the name of their user from the system unless an option sets it; a pod's uid has none.
POSTGRESQL = re.compile(r"\b(pg_isready|psql|pg_dumpall|pg_dump|createdb)\b")
OPERATORS = {"InferenceService", "PrometheusRule", "ExternalSecret", "SecretStore"}


def test_only_the_account_of_runs_mounts_a_token_which_argo_needs(rendered):
    """Without the token Argo's executor fails in the first pod: no configuration has been provided."""
    for documents in rendered.values():
        accounts = named(documents, "ServiceAccount")
        assert accounts.pop("pipeline-runner")["automountServiceAccountToken"] is True
        assert all(account["automountServiceAccountToken"] is False for account in accounts.values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_has_a_priority_and_no_token(complete, overlay):
    described_pods = list(pods(complete[overlay]))
    assert len(described_pods) >= 5
    for document, labels, spec in described_pods:
        where = f"{document['kind']} {document['metadata']['name']}"
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["priorityClassName"] in ("mcti-service", "mcti-training"), where
        assert labels["app.kubernetes.io/part-of"] == "mcti", where  # the policies select the pods of mcti by it
        assert labels["sidecar.istio.io/inject"] == "false", where  # istio-init is not `restricted`


def test_the_immutable_fields_of_stateful_sets_are_unchanged(rendered):
    """Kubernetes refuses a changed claim template, selector or service of a StatefulSet, which prevents an upgrade."""
    for documents in rendered.values():
        for name, document in named(documents, "StatefulSet").items():
            spec = document["spec"]
            assert (spec["serviceName"], "podManagementPolicy" in spec) == (name, False)
            assert spec["selector"] == {"matchLabels": {"app.kubernetes.io/name": name}}
            (claim,) = spec["volumeClaimTemplates"]
            assert claim["metadata"] == {"name": "data"}


def programs_without_user(command, environment):
    """Programs of PostgreSQL in a command that would read the name of the pod's user from the system."""
    text = " ".join(command)
    named_user = "PGUSER" in environment or re.search(r"(^| )(-U|--username)[ =]", text)
    return [] if named_user else POSTGRESQL.findall(text)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_program_of_postgresql_needs_an_entry_in_passwd(complete, overlay):
    commands = []
    for _, _, container in containers(complete[overlay]):
        environment = {variable["name"] for variable in container.get("env", ())}
        commands += [(container.get("command", []), environment)]
        commands += [
            (container[probe]["exec"]["command"], environment) for probe in PROBES if "exec" in container.get(probe, {})
        ]
    scripts = named(complete[overlay], "ConfigMap")["mcti-postgresql-scripts"]["data"].values()
    commands += [([line], set()) for script in scripts for line in script.replace("\\\n", "").splitlines()]
    assert sum(bool(POSTGRESQL.search(" ".join(command))) for command, _ in commands) >= 4
    assert [
        program for command, environment in commands for program in programs_without_user(command, environment)
    ] == []


def test_a_program_without_a_user_is_detected():
    assert programs_without_user(["pg_isready", "-h", "127.0.0.1"], set()) == ["pg_isready"]
    assert programs_without_user(["pg_isready", "-U", "postgres"], set()) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_probe_has_at_least_five_seconds(complete, overlay):
    for document, _, container in containers(complete[overlay]):
        for probe in PROBES:
            if probe in container:
                assert container[probe]["timeoutSeconds"] >= 5, (document["metadata"]["name"], probe)


def test_the_local_overlay_uses_images_that_are_loaded_into_the_node(tmp_path):
    """Also the image of the component `champion`: no image that exists in the node is pulled from a registry."""
    rows = list(containers(with_components(tmp_path, "local", "champion")))
    assert len(rows) >= 9
    assert {container["imagePullPolicy"] for _, _, container in rows} == {"IfNotPresent"}


def test_mlflow_is_updated_in_place_on_one_machine_and_without_interruption_elsewhere(rendered):
    for overlay, documents in rendered.items():
        deployment = named(documents, "Deployment")["mlflow"]["spec"]
        change = deployment["strategy"]["rollingUpdate"]
        assert deployment["strategy"]["type"] == "RollingUpdate"
        expected = (0, 1) if overlay == "local" else (1, 0)
        assert (change["maxSurge"], change["maxUnavailable"]) == expected
        # A budget equal to the replicas would prevent the drain of a node.
        budget = named(documents, "PodDisruptionBudget")["mlflow"]["spec"]["minAvailable"]
        assert budget < deployment["replicas"]


@pytest.mark.parametrize("overlay", ["local", "minio-or-seaweedfs"])
def test_the_overlay_has_no_object_of_an_operator(rendered, overlay):
    """With an object of an unknown kind `kubectl apply -k` fails and `kubectl diff` prints nothing."""
    groups = {
        document["apiVersion"].partition("/")[0] for document in rendered[overlay] if "." in document["apiVersion"]
    }
    assert {group for group in groups if not group.endswith("k8s.io")} == set()
    assert not {document["kind"] for document in rendered[overlay]} & OPERATORS


def test_the_components_add_the_kinds_of_the_operators(tmp_path):
    assert OPERATORS - {"SecretStore"} <= {
        document["kind"] for document in with_components(tmp_path, "local", "champion", "alarms", "external-secrets")
    }
    assert "ExternalSecret" in {document["kind"] for document in kustomize(KUBERNETES / "overlays/aws")}


def test_the_component_profile_contains_no_namespace(tmp_path):
    documents = with_components(tmp_path, "minio-or-seaweedfs", "profile", "kubeflow-in-namespace")
    assert not named(documents, "Namespace")
    assert {document["metadata"].get("namespace") for document in documents} == {"mcti", None}


def test_the_component_mlflow_users_starts_mlflow_with_users(tmp_path):
    """As the test of `mcti approve` starts it; the champion has the keys of a user, which are optional."""
    documents = with_components(tmp_path, "minio-or-seaweedfs", "champion", "mlflow-users")
    by_name = {row[2]["name"]: row[2] for row in containers(documents)}
    server = by_name["mlflow"]
    assert "--app-name=basic-auth" in server["command"]
    environment = {entry["name"]: entry for entry in server["env"]}
    config = Path(environment["MLFLOW_AUTH_CONFIG_PATH"]["value"])
    assert {"name": "users", "mountPath": str(config.parent), "readOnly": True} in server["volumeMounts"]
    assert environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "mcti-mlflow-users"
    entries = [one for one in by_name["kserve-container"]["env"] if one["name"].startswith("MLFLOW_TRACKING_")]
    user = [one["valueFrom"]["secretKeyRef"] for one in entries if "secretKeyRef" in one.get("valueFrom", {})]
    assert [(one["name"], one["key"], one["optional"]) for one in user] == [
        ("mcti-mlflow-client", "username", True), ("mcti-mlflow-client", "password", True)]  # fmt: skip


def test_mlflow_accepts_every_name_of_its_service_and_a_port_forward(rendered):
    from mlflow.server.security_utils import is_allowed_host_header

    for documents in rendered.values():
        ((_, _, server),) = [row for row in containers(documents) if row[2]["name"] == "mlflow"]
        (option,) = [word for word in server["command"] if word.startswith("--allowed-hosts=")]
        hosts = option.partition("=")[2].split(",")
        service = ("mlflow", "mlflow.mcti", "mlflow.mcti.svc", "mlflow.mcti.svc.cluster.local")
        for host in (*(f"{name}:5000" for name in service), "localhost:5000", "127.0.0.1:5000", "localhost:15000"):
            assert is_allowed_host_header(hosts, host), host
        for host in ("evil.example:5000", "mlflow.evil.example:5000", "localhost.evil.example:5000"):
            assert not is_allowed_host_header(hosts, host), host
        address = named(documents, "ConfigMap")["mcti-services"]["data"]["mlflow"]
        assert is_allowed_host_header(hosts, address.removeprefix("http://"))


def test_the_champion_downloads_its_model_through_mlflow_only(complete):
    """Its NetworkPolicy allows connections to MLflow only, so it cannot use a presigned address of S3."""
    for documents in complete.values():
        (service,) = named(documents, "InferenceService").values()
        (container,) = service["spec"]["predictor"]["containers"]
        environment = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert environment["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] == "false"
