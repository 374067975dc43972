"""Render overlays as `kubectl apply -k` does, and iterate over the rendered objects."""

import os
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "infra/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
# Components that any overlay may add; `profile` removes the namespace and is tested separately.
OPTIONAL = ("champion", "alarms", "mlflow-users")
# Kinds of operators, which Kubernetes' schemas do not contain.
CUSTOM = {"InferenceService", "PrometheusRule", "ExternalSecret", "SecretStore", "TrainJob", "TrainingRuntime"}
# Created with kubectl or by an operator (infra/runbook.md); no manifest contains them.
SECRETS = {
    "mcti-s3": {"access_key", "secret_key"},
    "mcti-postgresql": {"user", "password", "mlflow_uri", "search_uri"},
    "mcti-s3-identities": {"identities.json"},
    "mcti-mlflow-users": {"auth.ini", "flask_secret_key"},
    "mcti-mlflow-client": {"username", "password"},
}


def kubectl_is_new_enough():
    if not shutil.which("kubectl"):
        return False
    done = subprocess.run(["kubectl", "kustomize", "--help"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and "--load-restrictor" in done.stdout


def kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def with_components(folder, overlay, *components):
    """A site overlay in `folder`, as the runbook describes it: one of the shipped overlays and components."""
    tree = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(KUBERNETES / "overlays" / overlay, folder)],
        "components": [os.path.relpath(KUBERNETES / "components" / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return kustomize(folder)


def walk(tree):
    """All mappings of a tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from walk(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from walk(value)


def named(documents, resource_kind):
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == resource_kind}


def containers(documents):
    """(manifest, spec of the pod, container) of every container and init container."""
    for document in documents:
        for tree in walk(document):
            for key in ("containers", "initContainers"):
                for container in tree.get(key, ()):
                    if "image" in container:
                        yield document, tree, container


def pods(documents):
    """(manifest, labels, spec) of every pod that a manifest describes."""
    for document in documents:
        for tree in walk(document):
            if "containers" in tree.get("spec", {}) and "metadata" in tree:
                yield document, tree["metadata"].get("labels", {}), tree["spec"]
        if document["kind"] == "InferenceService":
            predictor = document["spec"]["predictor"]
            yield document, predictor["labels"], predictor
