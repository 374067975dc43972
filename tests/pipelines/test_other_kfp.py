"""Upgrade of Kubeflow's SDK and the way back: compiled pipelines between the pinned release and another one.

MCTI_OTHER_KFP names a folder with the packages of another release of kfp; `make drill KFP=2.16.0` creates it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.registry.http_client import BIN

pytestmark = pytest.mark.slow
KINDS = ("training", "retraining", "inference")
_READ = """
import json, sys
from google.protobuf.json_format import MessageToDict
from kfp import __version__, components
print(json.dumps([__version__, MessageToDict(components.load_component_from_file(sys.argv[1]).pipeline_spec)]))
"""


@pytest.fixture(scope="module")
def other():
    """The environment in which kfp is the other release."""
    folder = os.environ.get("MCTI_OTHER_KFP")
    if not folder:
        pytest.skip("no other release of kfp is named by MCTI_OTHER_KFP (make drill)")
    return {**os.environ, "PYTHONPATH": folder}


@pytest.fixture(scope="module", params=KINDS)
def compiled(request, tmp_path_factory):
    """Kind and file of a pipeline that the pinned release compiled."""
    path = tmp_path_factory.mktemp("pinned") / "pipeline.yaml"
    subprocess.run(compile_command(request.param, path), check=True, capture_output=True)
    return request.param, path


def compile_command(name, out):
    remote = ["--set", "cluster.remote=s3://mcti-data/dvc"]  # retraining needs one
    return [str(BIN / "mcti"), "pipeline", "compile", "--kind", name, "--out", str(out), *remote]


def read(path, environment):
    """Release of kfp and the specification as it reads the file."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_other_release_reads_what_the_pinned_one_compiled(compiled, other):
    """The API server of a cluster before or after its upgrade gets the same tasks, inputs and resources."""
    pinned_release, pinned = read(compiled[1], dict(os.environ))
    other_release, specification = read(compiled[1], other)
    assert other_release != pinned_release, "MCTI_OTHER_KFP is the pinned release: name another one"
    assert specification == pinned


def test_the_other_release_compiles_the_same_pipeline_or_reports_the_difference(compiled, other, tmp_path):
    """A difference that the rules of a cluster know is one error, and no file: never a different pipeline."""
    name, pinned = compiled
    out = tmp_path / "pipeline.yaml"
    done = subprocess.run(compile_command(name, out), check=False, capture_output=True, text=True, env=other)
    if done.returncode:
        assert not out.exists()
        assert [line for line in done.stderr.splitlines() if line][-1].startswith("error: ")
        assert "Traceback" not in done.stderr
        return
    assert without_release(out) == without_release(pinned)


def without_release(path):
    documents = list(yaml.safe_load_all(Path(path).read_text(encoding="utf-8")))
    documents[0].pop("sdkVersion")
    return json.dumps(documents, sort_keys=True)
