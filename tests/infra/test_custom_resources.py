"""Objects of operators: against the fields of their releases (schemas/), their pods against Kubernetes' own schemas."""

import copy
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from tests.infra.manifests import CUSTOM, KUBERNETES, OVERLAYS, kustomize, named, with_components
from tests.infra.test_manifests import KUBERNETES_VERSION

SCHEMAS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("schemas/*.json")
}
PREDICTOR = {"minReplicas", "maxReplicas", "timeout", "labels", "annotations"}  # KServe's own beside those of a pod


def check(document):
    """Raises ValidationError of jsonschema or of kubernetes_validate."""
    jsonschema.validate(document, SCHEMAS[document["kind"]], cls=jsonschema.Draft202012Validator)
    for native in embedded(document):
        kubernetes_validate.validate(native, KUBERNETES_VERSION, strict=True)


def embedded(document):
    """The objects of Kubernetes inside: the pod of a predictor, the jobs of a runtime."""
    if document["kind"] == "InferenceService":
        predictor = document["spec"]["predictor"]
        pod = {key: value for key, value in predictor.items() if key not in PREDICTOR}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod}
    if document["kind"] == "TrainingRuntime":
        for job in document["spec"]["template"]["spec"]["replicatedJobs"]:
            template = copy.deepcopy(job["template"])
            template["spec"]["template"]["spec"].setdefault("restartPolicy", "Never")  # JobSet sets it
            yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}, "spec": template["spec"]}


@pytest.fixture(scope="module")
def custom(complete):
    documents = {d["kind"]: d for name in OVERLAYS for d in complete[name] if d["kind"] in CUSTOM}
    assert set(documents) == CUSTOM == set(SCHEMAS)
    return documents


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_of_an_operator_is_as_its_release_wants_it(complete, overlay):
    documents = [document for document in complete[overlay] if document["kind"] in CUSTOM]
    assert documents
    for document in documents:
        check(document)


def test_every_schema_says_which_release_it_is_from():
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "Source: " in schema["$comment"]


def put(tree, path, value):
    *way, last = path
    for key in way:
        tree = tree[key]
    tree[last] = value


@pytest.mark.parametrize(
    ("kind_name", "path", "value"),
    [
        ("TrainingRuntime", ("spec", "mlPolicy", "torch"), {"numProcPerNode": "auto"}),  # gone since 2.2
        ("TrainJob", ("spec", "trainer", "numProcPerNode"), "auto"),  # a number since 2.2
        ("TrainJob", ("spec", "podSpecOverrides"), []),  # 2.0 alone
        ("InferenceService", ("metadata", "annotations", "serving.kserve.io/deploymentMode"), "RawDeployment"),
        ("InferenceService", ("spec", "predictor", "containers", 0, "imagePolicy"), "Always"),
        ("InferenceService", ("spec", "predictor", "replicas"), 1),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "5 minutes"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "severity"), "critical"),
        ("ExternalSecret", ("apiVersion",), "external-secrets.io/v1beta1"),
        ("ExternalSecret", ("spec", "data", 0, "remoteRef"), {"name": "mcti/s3"}),
        ("SecretStore", ("spec", "provider", "aws", "service"), "S3"),
    ],
)
def test_a_wrong_field_is_found(custom, kind_name, path, value):
    broken = copy.deepcopy(custom[kind_name])
    put(broken, path, value)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(broken)


def test_a_wrong_field_in_the_pod_of_a_training_is_found(custom):
    broken = copy.deepcopy(custom["TrainingRuntime"])
    job = broken["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    job["spec"]["template"]["spec"]["containers"][0]["image_pull_policy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        check(broken)


def test_external_secrets_make_what_our_pods_read(tmp_path):
    """Key by key those of the runbook; the vault of Amazon is one of many."""
    from tests.infra.manifests import SECRETS

    keys = named(with_components(tmp_path, "minio-or-seaweedfs", "external-secrets"), "ExternalSecret")
    assert named(kustomize(KUBERNETES / "overlays/aws"), "ExternalSecret").keys() == keys.keys()
    for secret in keys.values():
        assert {entry["secretKey"] for entry in secret["spec"]["data"]} == SECRETS[secret["spec"]["target"]["name"]]
