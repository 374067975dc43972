"""Overlay `local` and one task of a pipeline on 2 cores and 8 GiB, together with Kubernetes and Kubeflow Pipelines."""

import yaml

from infra.rehearse.settings import merge, merge_files
from mcti.params import load
from tests.infra.manifests import KUBERNETES, ROOT, containers, named, pods

MIB = 1 << 20
# Requests of the other pods of such a node, in thousandths of a core and MiB.
# kubeadm and kind: API server 250, controllers 200, scheduler 100, etcd 100, two CoreDNS 200, network plugin 100.
KUBE_SYSTEM = (950, 290)
# Kubeflow Pipelines 2.17 as shipped: API server 250, scheduled workflows 120, persistence agent 120, viewer 120,
# MySQL 100, Argo 100, visualisation 30, object store 20, page 10 (manifests/kustomize of its release).
KUBEFLOW = (870, 3200)
# Requests that KFP adds to a task: the launcher, an init container; the driver, a pod that ends before the task.
LAUNCHER = (100, 0)
DRIVER = (100, 64)
NODE = (2000, 8192 - 300)  # the kubelet reserves some memory


def amount(text, unit):
    for ending, factor in (("m", 0.001), ("Mi", MIB), ("Gi", MIB << 10)):
        if str(text).endswith(ending):
            return float(str(text).removesuffix(ending)) * factor / unit
    return float(text) / unit


def requests(container):
    requests = container["resources"]["requests"]
    return round(amount(requests["cpu"], 0.001)), round(amount(requests["memory"], MIB))


def total(*pairs):
    return tuple(map(sum, zip(*pairs, strict=True)))


def pod_requests(spec):
    """The requests of a pod for the scheduler: the sum of its containers, or the largest init container if larger."""
    container_sum = total(*map(requests, spec["containers"]))
    return tuple(map(max, zip(container_sum, *map(requests, spec.get("initContainers", ())), strict=True)))


def settings(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(merge_files(ROOT / "params.yaml", KUBERNETES / "overlays/local/params.yaml"), encoding="utf-8")
    return load(path)


def rows(cluster):
    return [getattr(cluster.steps, name) for name in type(cluster.steps).model_fields]


def largest_task(cluster, documents):
    """A task with Argo's container `wait`, which gets the defaults of the LimitRange."""
    (limits,) = named(documents, "LimitRange")["mcti"]["spec"]["limits"]
    wait = requests({"resources": {"requests": limits["defaultRequest"]}})
    tasks = [requests({"resources": {"requests": {"cpu": row.cpu, "memory": row.memory}}}) for row in rows(cluster)]
    summed_requests = total(tuple(map(max, zip(*tasks, strict=True))), wait)
    driver = total(DRIVER, wait)
    return tuple(map(max, zip(summed_requests, LAUNCHER, driver, strict=True)))


def test_services_and_the_largest_task_fit_on_a_node_with_kubernetes_and_kubeflow(rendered, tmp_path):
    services = [
        pod_requests(spec)
        for document, _, spec in pods(rendered["local"])
        if document["kind"] in ("Deployment", "StatefulSet")
    ]
    assert len(services) == 3
    task = largest_task(settings(tmp_path).cluster, rendered["local"])
    cores, memory = total(KUBE_SYSTEM, KUBEFLOW, *services, task)
    assert cores <= NODE[0]
    assert memory <= NODE[1]


def test_no_job_requests_more_than_a_task(rendered, tmp_path):
    task = largest_task(settings(tmp_path).cluster, rendered["local"])
    jobs = [
        pod_requests(spec) for document, _, spec in pods(rendered["local"]) if document["kind"] in ("Job", "CronJob")
    ]
    assert len(jobs) == 3
    assert all(cores <= task[0] and memory <= task[1] for cores, memory in jobs)


def test_the_quota_of_the_settings_is_that_of_the_namespace(rendered, tmp_path):
    cluster = settings(tmp_path).cluster
    hard = named(rendered["local"], "ResourceQuota")["mcti"]["spec"]["hard"]
    assert cluster.quota.cpu == hard["requests.cpu"]
    assert cluster.quota.memory == hard["requests.memory"]
    assert cluster.quota.cpu_limit == hard["limits.cpu"]
    assert cluster.quota.memory_limit == hard["limits.memory"]
    base = load(ROOT / "params.yaml").cluster.quota
    hard = named(rendered["minio-or-seaweedfs"], "ResourceQuota")["mcti"]["spec"]["hard"]
    assert (base.cpu, base.memory) == (hard["requests.cpu"], hard["requests.memory"])
    assert (base.cpu_limit, base.memory_limit) == (hard["limits.cpu"], hard["limits.memory"])


def test_every_task_of_the_settings_is_small(tmp_path):
    """A step that overlay `local` omits would keep its larger request and never be scheduled."""
    assert {row.cpu for row in rows(settings(tmp_path).cluster)} == {"100m"}


def test_the_quota_suffices_for_services_jobs_and_ten_tasks(rendered):
    """Each task has a container of Argo with the limits of the LimitRange."""
    hard = named(rendered["local"], "ResourceQuota")["mcti"]["spec"]["hard"]
    cores = sum(amount(c["resources"]["limits"]["cpu"], 1) for *_, c in containers(rendered["local"]))
    memory = sum(amount(c["resources"]["limits"]["memory"], MIB) for *_, c in containers(rendered["local"]))
    (limits,) = named(rendered["local"], "LimitRange")["mcti"]["spec"]["limits"]
    task = (2 + amount(limits["default"]["cpu"], 1), 4096 + amount(limits["default"]["memory"], MIB))
    assert cores + 10 * task[0] <= amount(hard["limits.cpu"], 1)
    assert memory + 10 * task[1] <= amount(hard["limits.memory"], MIB)


def test_a_pod_of_kubeflow_with_a_request_and_no_limit_is_accepted(rendered):
    """It gets the default limit; a request above its limit is refused. KFP's MySQL requests 800 MiB."""
    for documents in rendered.values():
        (limits,) = named(documents, "LimitRange")["mcti"]["spec"]["limits"]
        assert amount(limits["default"]["memory"], MIB) >= 800
        assert amount(limits["default"]["cpu"], 0.001) >= 250


def test_merging_keeps_every_setting_that_the_small_settings_omit():
    text = merge_files(ROOT / "params.yaml", KUBERNETES / "overlays/local/params.yaml")
    tree, shipped = yaml.safe_load(text), yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    small = yaml.safe_load((KUBERNETES / "overlays/local/params.yaml").read_text(encoding="utf-8"))
    assert tree == shipped | small, "the shipped section `cluster` is empty"
    site = {"cluster": {"image": "registry.example/mcti:1", "extract_shards": 8}}
    assert merge(site, small)["cluster"] == {"image": "registry.example/mcti:1", **small["cluster"]}
