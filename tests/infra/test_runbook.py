"""The runbook: its overlay renders, kubectl accepts its commands, and the manifests contain the objects they name."""

import json
import re
import shlex
import subprocess

import pytest

from mcti.local.settings import make_credentials
from tests.infra.manifests import ROOT, kustomize, named

TEXT = (ROOT / "infra/runbook.md").read_text(encoding="utf-8")
FENCED = [block.rstrip().splitlines() for block in re.split(r"^ *```.*$", TEXT, flags=re.MULTILINE)[1::2]]
INLINE = re.findall(r"`(kubectl [^`…]+)`", TEXT)
# Created by KFP, KServe, kubectl or Kubernetes.
EXTERNAL_OBJECTS = {"deployment/ml-pipeline", "deployment/champion-predictor"}


def kubectl_commands():
    """Every kubectl command of the runbook as a list of arguments, without pipes, comments and redirections."""
    lines = [line.strip() for block in FENCED for line in block] + INLINE
    for line in lines:
        for part in re.split(r"\$\(|\|\||&&| \| | & ?$|[)] ", re.sub(r"\s+#.*$", "", line)):
            command = re.search(r"\bkubectl .*", part)
            if command:
                words = shlex.split(re.sub(r"( [12]?[<>] ?\S+)+$", "", command.group(0).rstrip(")&; ")))
                yield words[: words.index("--")] if "--" in words else words


COMMANDS = [words for words in kubectl_commands() if words[-1] != "-k"]  # mentioned in a sentence


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_kubectl_accepts_every_flag_of_the_runbook(rendered, words):
    """kubectl reads flags before --help and refuses an unknown one. No request is sent to a cluster."""
    words = [word.replace("$replicas", "2") for word in words]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_flag_is_detected(rendered):
    done = subprocess.run(["kubectl", "wait", "--until=ready", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_the_manifests_contain_the_objects_that_the_commands_name(rendered):
    documents = rendered["minio-or-seaweedfs"]
    objects = {f"{d['kind'].lower()}/{d['metadata']['name']}" for d in documents} | EXTERNAL_OBJECTS
    targets = re.findall(
        r"\b((?:deployment|statefulset|service|cronjob|configmap)/[a-z0-9-]+)", " ".join(map(" ".join, COMMANDS))
    )
    assert len(set(targets)) >= 5
    assert set(targets) <= objects
    assert "mlflow-migrate" in named(documents, "CronJob")
    labels = {d["metadata"].get("labels", {}).get("app.kubernetes.io/name") for d in documents}
    assert "mlflow-migrate" in labels, "kubectl apply -l selects the migration by it"


def test_the_overlay_of_the_runbook_renders(rendered, tmp_path):
    (block,) = [block for block in FENCED if any("kind: Kustomization" in line for line in block)]
    text = "\n".join(line[3:] for line in block).replace("sha256:…", "sha256:" + "0" * 64)
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "infra").symlink_to(ROOT / "infra")
    (site / "kustomization.yaml").write_text(text, encoding="utf-8")
    documents = kustomize(site)
    deployment = named(documents, "Deployment")["mlflow"]["spec"]["template"]["spec"]
    assert deployment["containers"][0]["image"] == "registry.example/mcti-services@sha256:" + "0" * 64


def test_identities_have_the_format_that_the_stack_writes_for_seaweedfs(tmp_path):
    (line,) = [line for block in FENCED for line in block if '"identities"' in line]
    documented, written = json.loads(line), json.loads(make_credentials(tmp_path).read_text(encoding="utf-8"))
    ((expected,), (identity,)) = documented["identities"], written["identities"]
    assert expected.keys() == identity.keys()
    assert expected["actions"] == identity["actions"]
    assert expected["credentials"][0].keys() == identity["credentials"][0].keys()


def test_the_patch_for_retries_is_json():
    (text,) = re.findall(r"'COMPILED_PIPELINE_SPEC_PATCH=(.*)'", TEXT)
    retry = json.loads(text)["templateDefaults"]["retryStrategy"]
    assert retry == {"limit": "0", "retryPolicy": "Always"}


def test_the_migration_stops_every_writer_before_it_starts():
    """In this order: scale to zero, deletion of the pods, backup, migration, new servers."""
    (block,) = [block for block in FENCED if any("mlflow-migrate" in line for line in block)]
    text = "\n".join(block)
    steps = [
        "scale deployment/mlflow --replicas=0",
        "--for=delete",
        "create job --from=cronjob/backup",
        "job/$backup --for=condition=complete",
        "-l app.kubernetes.io/name=mlflow-migrate",
        "create job --from=cronjob/mlflow-migrate",
        "job/$job --for=condition=complete",
    ]
    positions = [text.index(step) for step in steps]
    assert positions == sorted(positions)
    assert text.rindex("kubectl apply -k site") > positions[-1]
