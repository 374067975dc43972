"""Render overlays as `kubectl apply -k` would, and walk through what comes out."""

import os
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "infra/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
# Components that any overlay may add; `profile` takes the namespace away and is tested by itself.
OPTIONAL = ("champion", "alarms")
# Kinds of operators, which Kubernetes' own schemas do not know.
CUSTOM = {"InferenceService", "PrometheusRule", "ExternalSecret", "SecretStore", "TrainJob", "TrainingRuntime"}
# Made with kubectl or by an operator (infra/runbook.md), never written down here.
SECRETS = {
    "mcti-s3": {"access_key", "secret_key"},
    "mcti-postgresql": {"user", "password", "mlflow_uri", "search_uri"},
    "mcti-s3-identities": {"identities.json"},
}


def kubectl_is_new_enough():
    if not shutil.which("kubectl"):
        return False
    answer = subprocess.run(["kubectl", "kustomize", "--help"], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and "--load-restrictor" in answer.stdout


def kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def with_components(folder, overlay, *components):
    """An overlay of one's own in `folder`, as the runbook describes it: one of ours and components."""
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


def named(documents, kind_name):
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind_name}


def containers(documents):
    """(manifest, pod's spec, container) of every container, init containers too."""
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
