"""Objects of operators against the schemas of their releases (schemas/), their pods against Kubernetes' schemas."""

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
PREDICTOR = {
    "minReplicas",
    "maxReplicas",
    "timeout",
    "labels",
    "annotations",
}  # fields of KServe, in addition to those of a pod


def check(document):
    """Raises ValidationError of jsonschema or of kubernetes_validate."""
    jsonschema.validate(document, SCHEMAS[document["kind"]], cls=jsonschema.Draft202012Validator)
    for native in embedded(document):
        kubernetes_validate.validate(native, KUBERNETES_VERSION, strict=True)


def embedded(document):
    """The embedded objects of Kubernetes: the pod of a predictor, the jobs of a runtime."""
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
def test_every_object_of_an_operator_is_valid_by_the_schema_of_its_release(complete, overlay):
    documents = [document for document in complete[overlay] if document["kind"] in CUSTOM]
    assert documents
    for document in documents:
        check(document)


def test_every_schema_names_its_release():
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "Source: " in schema["$comment"]


def set_value(tree, path, value):
    *parents, last = path
    for key in parents:
        tree = tree[key]
    tree[last] = value


@pytest.mark.parametrize(
    ("resource_kind", "path", "value"),
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
def test_a_wrong_field_is_detected(custom, resource_kind, path, value):
    broken = copy.deepcopy(custom[resource_kind])
    set_value(broken, path, value)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(broken)


def test_a_wrong_field_in_the_pod_of_a_training_is_detected(custom):
    broken = copy.deepcopy(custom["TrainingRuntime"])
    job = broken["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    job["spec"]["template"]["spec"]["containers"][0]["image_pull_policy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        check(broken)


def test_external_secrets_create_the_keys_that_the_pods_read(tmp_path):
    """Exactly the keys of the runbook; the overlay `aws` declares the same Secrets."""
    from tests.infra.manifests import SECRETS

    secrets = named(with_components(tmp_path, "minio-or-seaweedfs", "external-secrets"), "ExternalSecret")
    assert named(kustomize(KUBERNETES / "overlays/aws"), "ExternalSecret").keys() == secrets.keys()
    for secret in secrets.values():
        assert {entry["secretKey"] for entry in secret["spec"]["data"]} == SECRETS[secret["spec"]["target"]["name"]]
