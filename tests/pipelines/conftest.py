"""Fixtures of the tests of the pipelines: settings with every kind of resource, and the compiled file."""

from pathlib import Path

import pytest
import yaml

from mcti import params
from mcti.pipelines import submit
from tests.pipelines import fake_api

DATA = "d41d8cd98f00b204e9800998ecf8427e.dir"  # an arbitrary version of the sources
OVERRIDES = (
    "cluster.image=registry.example/mcti-python@sha256:" + "0" * 64,
    "cluster.steps.train.gpus=2",
    "cluster.steps.train.shared_memory=8Gi",
    "cluster.gpu_node_labels={accelerator: h200}",
    "cluster.node_labels={pool: cpu}",
    "cluster.claims={scratch-claim: /scratch}",
    "cluster.checkpoints=/scratch/checkpoints",
    "cluster.extract_shards=3",
    "cluster.log_level=DEBUG",
    "cluster.remote=s3://mcti-data/dvc",
    "train.epochs=3",
)
SOURCES = "train.sources=[{cohort: s3://a/cohort, features: s3://a/features}, {cohort: s3://b/cohort, features: s3://b/features}]"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # the SDK and kubectl read a context from it
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for name in ("KFP_TOKEN", "KFP_COOKIES", "KFP_CA_CERT", "KFP_CLIENT_CERT", "KFP_CLIENT_KEY"):
        monkeypatch.delenv(name, raising=False)
    with fake_api.serving() as (address, state):
        yield address, state


@pytest.fixture(scope="session")
def settings():
    return params.load(None, OVERRIDES)


@pytest.fixture(scope="session")
def package(settings, tmp_path_factory) -> Path:
    """The compiled pipeline of a known data version."""
    path = tmp_path_factory.mktemp("package") / "training.yaml"
    submit.compile_to(settings, DATA, path)
    return path


@pytest.fixture(scope="session")
def ir(package):
    """The two documents of the file: the pipeline, and its settings for Kubernetes."""
    return list(yaml.safe_load_all(package.read_text(encoding="utf-8")))
