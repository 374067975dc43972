"""What the API server, the kubelet and Argo make of our pods: identity, probes, images, priorities."""

import re

import pytest

from tests.infra.manifests import KUBERNETES, OVERLAYS, containers, kustomize, named, pods, with_components

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# PostgreSQL's programs ask the system for the name of their user unless they get one; a pod's uid has none.
POSTGRESQL = re.compile(r"\b(pg_isready|psql|pg_dumpall|pg_dump|createdb)\b")
OPERATORS = {"InferenceService", "PrometheusRule", "ExternalSecret", "SecretStore"}


def test_argo_reports_from_the_pods_of_a_run_with_the_token_of_their_account(rendered):
    """Without it the executor stops in the first pod: no configuration has been provided."""
    for documents in rendered.values():
        accounts = named(documents, "ServiceAccount")
        assert accounts.pop("pipeline-runner")["automountServiceAccountToken"] is True
        assert all(account["automountServiceAccountToken"] is False for account in accounts.values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_of_ours_has_a_token_or_goes_without_a_priority(complete, overlay):
    entries = list(pods(complete[overlay]))
    assert len(entries) >= 5
    for document, labels, spec in entries:
        where = f"{document['kind']} {document['metadata']['name']}"
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["priorityClassName"] in ("mcti-service", "mcti-training"), where
        assert labels["app.kubernetes.io/part-of"] == "mcti", where  # the policies tell ours from Kubeflow's by it
        assert labels["sidecar.istio.io/inject"] == "false", where  # istio-init is not `restricted`


def test_an_installation_of_a_former_version_can_be_upgraded(rendered):
    """Kubernetes refuses another template of a claim, another selector or service of a StatefulSet."""
    for documents in rendered.values():
        for name, document in named(documents, "StatefulSet").items():
            spec = document["spec"]
            assert (spec["serviceName"], "podManagementPolicy" in spec) == (name, False)
            assert spec["selector"] == {"matchLabels": {"app.kubernetes.io/name": name}}
            (claim,) = spec["volumeClaimTemplates"]
            assert claim["metadata"] == {"name": "data"}


def without_user(command, environment):
    """Programs of PostgreSQL in a command that would ask for the name of the pod's user."""
    text = " ".join(command)
    named_user = "PGUSER" in environment or re.search(r"(^| )(-U|--username)[ =]", text)
    return [] if named_user else POSTGRESQL.findall(text)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_program_of_postgresql_needs_a_line_in_passwd(complete, overlay):
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
    assert [entries for command, environment in commands for entries in without_user(command, environment)] == []


def test_a_program_without_a_user_would_be_found():
    assert without_user(["pg_isready", "-h", "127.0.0.1"], set()) == ["pg_isready"]
    assert without_user(["pg_isready", "-U", "postgres"], set()) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_probe_has_more_than_a_second_on_a_busy_node(complete, overlay):
    for document, _, container in containers(complete[overlay]):
        for probe in PROBES:
            if probe in container:
                assert container[probe]["timeoutSeconds"] >= 5, (document["metadata"]["name"], probe)


def test_on_one_machine_the_images_of_the_node_start(tmp_path):
    """Also the champion's, which a site adds: no registry is asked for an image that was loaded into the node."""
    entries = list(containers(with_components(tmp_path, "local", "champion")))
    assert len(entries) >= 9
    assert {container["imagePullPolicy"] for _, _, container in entries} == {"IfNotPresent"}


def test_mlflow_is_replaced_without_a_second_copy_on_one_machine_and_without_a_gap_elsewhere(rendered):
    for overlay, documents in rendered.items():
        deployment = named(documents, "Deployment")["mlflow"]["spec"]
        change = deployment["strategy"]["rollingUpdate"]
        assert deployment["strategy"]["type"] == "RollingUpdate"
        expected = (0, 1) if overlay == "local" else (1, 0)
        assert (change["maxSurge"], change["maxUnavailable"]) == expected
        # A budget equal to the replicas would let nobody drain the node.
        budget = named(documents, "PodDisruptionBudget")["mlflow"]["spec"]["minAvailable"]
        assert budget < deployment["replicas"]


@pytest.mark.parametrize("overlay", ["local", "minio-or-seaweedfs"])
def test_a_cluster_without_operators_takes_the_overlay(rendered, overlay):
    """One object of an unknown kind, and `kubectl apply -k` ends with exit code 1, `kubectl diff` with no output."""
    kinds = {
        document["apiVersion"].partition("/")[0] for document in rendered[overlay] if "." in document["apiVersion"]
    }
    assert {all_kind for all_kind in kinds if not all_kind.endswith("k8s.io")} == set()
    assert not {document["kind"] for document in rendered[overlay]} & OPERATORS


def test_the_components_bring_the_kinds_of_the_operators(tmp_path):
    assert OPERATORS - {"SecretStore"} <= {
        document["kind"] for document in with_components(tmp_path, "local", "champion", "alarms", "external-secrets")
    }
    assert "ExternalSecret" in {document["kind"] for document in kustomize(KUBERNETES / "overlays/aws")}


def test_in_a_profile_the_namespace_stays_kubeflows(tmp_path):
    documents = with_components(tmp_path, "minio-or-seaweedfs", "profile", "kubeflow-in-namespace")
    assert not named(documents, "Namespace")
    assert {document["metadata"].get("namespace") for document in documents} == {"mcti", None}


def test_mlflow_answers_to_every_name_of_its_service_and_to_a_port_forward(rendered):
    from mlflow.server.security_utils import is_allowed_host_header

    for documents in rendered.values():
        ((_, _, server),) = [entries for entries in containers(documents) if entries[2]["name"] == "mlflow"]
        (words,) = [word for word in server["command"] if word.startswith("--allowed-hosts=")]
        hosts = words.partition("=")[2].split(",")
        service = ("mlflow", "mlflow.mcti", "mlflow.mcti.svc", "mlflow.mcti.svc.cluster.local")
        for host in (*(f"{name}:5000" for name in service), "localhost:5000", "127.0.0.1:5000", "localhost:15000"):
            assert is_allowed_host_header(hosts, host), host
        for host in ("evil.example:5000", "mlflow.evil.example:5000", "localhost.evil.example:5000"):
            assert not is_allowed_host_header(hosts, host), host
        address = named(documents, "ConfigMap")["mcti-services"]["data"]["mlflow"]
        assert is_allowed_host_header(hosts, address.removeprefix("http://"))


def test_the_champion_fetches_its_model_through_mlflow_alone(complete):
    """A presigned address of S3 would be of no use to it: its policy lets it speak to MLflow only."""
    for documents in complete.values():
        (service,) = named(documents, "InferenceService").values()
        (container,) = service["spec"]["predictor"]["containers"]
        environment = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert environment["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] == "false"
