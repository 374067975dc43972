"""Allowed connections: the namespace is closed except for those that a run, a server or a backup needs."""

import pytest

from tests.infra.manifests import OVERLAYS, pods, walk, with_components
from tests.infra.policies import may_connect

TASK = {"pipelines.kubeflow.org/v2_component": "true"}
# As Kubeflow Pipelines 2.17 labels its pods (manifests/kustomize of its release).
KUBEFLOW = {"app": "ml-pipeline", "app.kubernetes.io/part-of": "kubeflow"}
UNLABELLED = {"app": "mysql"}


def service(name):
    return "mcti", {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "mcti"}


def policies(documents):
    return [document for document in documents if document["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_that_no_policy_names_reaches_no_service(rendered, overlay):
    for unknown in (("mcti", {"app": "x"}), ("default", {"app": "x"})):
        for name, port in (("mlflow", 5000), ("postgresql", 5432), ("s3", 8333), ("champion", 8080)):
            if overlay == "local" and unknown[0] == "mcti" and name == "mlflow":
                continue  # Kubeflow's server, whose plugin opens runs, may be any pod of this namespace
            assert not may_connect(policies(rendered[overlay]), unknown, service(name), port)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("namespace", ["mcti", "kubeflow"])
def test_a_task_reaches_its_services_from_both_namespaces(rendered, overlay, namespace):
    all_policies, task = policies(rendered[overlay]), (namespace, TASK)
    assert may_connect(all_policies, task, service("mlflow"), 5000)
    assert may_connect(all_policies, task, service("postgresql"), 5432)
    assert may_connect(all_policies, task, service("s3"), 8333) == (
        overlay != "aws"
    )  # aws: the object store is outside the cluster
    for port in (8887, 8888, 8080, 9000, 8333):  # API server, ML-Metadata, object store
        assert may_connect(all_policies, task, ("kubeflow", KUBEFLOW), port)
    assert not may_connect(all_policies, ("mcti", TASK), service("postgresql"), 22)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("port", [443, 6443, 8443, 16443])  # Service; kubeadm, kind, k3s; minikube; MicroK8s
def test_a_task_reaches_the_api_server(rendered, overlay, port):
    for address in ("10.96.0.1", "172.18.0.2", "192.168.49.2", "100.64.3.1"):
        assert may_connect(policies(rendered[overlay]), ("mcti", TASK), address, port)
    assert not may_connect(policies(rendered[overlay]), ("mcti", TASK), "8.8.8.8", 6443)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_pods_reach_the_name_servers_of_the_cluster_and_of_the_node(rendered, overlay, protocol):
    all_policies = policies(rendered[overlay])
    for pod in (("mcti", TASK), service("mlflow")):
        assert may_connect(all_policies, pod, ("kube-system", {"k8s-app": "kube-dns"}), 53, protocol)
        assert may_connect(all_policies, pod, "169.254.20.10", 53, protocol)  # NodeLocal DNSCache
        assert may_connect(all_policies, pod, "169.254.25.10", 53, protocol)  # the same by Kubespray
        assert not may_connect(all_policies, pod, "169.254.169.254", 80, protocol)  # credentials of the cloud instance


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubeflow_works_in_the_namespace_and_postgresql_stays_closed_to_it(rendered, tmp_path, overlay):
    added = () if overlay == "local" else ("kubeflow-in-namespace",)  # `local` has it already
    all_policies = policies(with_components(tmp_path, overlay, *added))
    for server in (KUBEFLOW, UNLABELLED):
        assert may_connect(all_policies, ("mcti", TASK), ("mcti", server), 8887)
        assert may_connect(all_policies, ("mcti", server), ("mcti", UNLABELLED), 3306)
        assert may_connect(all_policies, ("ingress", {}), ("mcti", server), 3000)
        assert may_connect(all_policies, ("mcti", server), "10.96.0.1", 443)
        assert may_connect(all_policies, ("mcti", server), service("mlflow"), 5000)
        assert not may_connect(all_policies, ("mcti", server), service("postgresql"), 5432)
    strict = [
        policy
        for policy in all_policies
        if policy["metadata"]["name"] not in ("kubeflow", "pipeline-tasks-to-kubeflow")
    ]
    assert not may_connect(strict, ("mcti", TASK), ("mcti", KUBEFLOW), 8887)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_servers_and_jobs_reach_their_services(complete, overlay):
    all_policies = policies(complete[overlay])
    for name in ("mlflow", "mlflow-migrate", "backup"):
        assert may_connect(all_policies, service(name), service("postgresql"), 5432)
    assert may_connect(all_policies, service("champion"), service("mlflow"), 5000)
    assert not may_connect(all_policies, service("champion"), service("postgresql"), 5432)
    assert may_connect(all_policies, ("kubeflow", KUBEFLOW), service("mlflow"), 5000)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_with_the_keys_of_s3_reach_it(complete, overlay):
    store = "52.219.0.1" if overlay == "aws" else service("s3")
    port = 443 if overlay == "aws" else 8333
    holders = list(_holders(complete[overlay]))
    assert len(holders) >= 2
    for labels in holders:
        assert may_connect(policies(complete[overlay]), ("mcti", labels), store, port)
    assert not may_connect(policies(complete[overlay]), service("champion"), store, port)


def _holders(documents):
    """Labels of the pods with a container that reads the Secret `mcti-s3`."""
    for document, labels, spec in pods(documents):
        if any(tree.get("name") == "mcti-s3" and "key" in tree for tree in walk(spec)):
            assert document["kind"] != "InferenceService"
            yield labels
