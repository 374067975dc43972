"""Rules for compiled pipelines: those of mcti satisfy every rule, and a violation of each rule is detected."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp import compiler, dsl

from mcti import params
from mcti.errors import DataError, UsageError
from mcti.params.quantities import amount
from mcti.pipelines import checks, submit
from mcti.pipelines.checks import pods, size
from mcti.pipelines.checks.document import read
from tests.pipelines.conftest import DATA, OVERRIDES, SOURCES
from tests.pipelines.violations import VIOLATIONS, rewritten_parameter, root_user

ROOT = Path(__file__).parents[2]
STUDY = "search.storage=postgresql://mcti@postgres.mcti/optuna"


def _write(path, documents):
    path.write_text("\n---\n".join(json.dumps(tree) for tree in documents), encoding="utf-8")  # JSON is YAML
    return path


def check_changed(ir, tmp_path, change, cluster):
    """The report on the compiled pipeline after `change`."""
    documents = copy.deepcopy(ir)
    change(*documents)
    return checks.check(_write(tmp_path / "planted.yaml", documents), cluster)


@pytest.mark.parametrize("pipeline", submit.PIPELINES)
@pytest.mark.parametrize("more", [[], ["cluster.search_workers=3", STUDY], ["cluster.extract_shards=40"]])
def test_every_pipeline_satisfies_every_rule(pipeline, more, tmp_path):
    settings = params.load(None, [*OVERRIDES, SOURCES, *more])
    submit.compile_to(settings, DATA, tmp_path / "file.yaml", pipeline)
    report = checks.check(tmp_path / "file.yaml", settings.cluster)
    assert report.violations == ()
    assert set(report.passed) == {rule.name for rule in checks.RULES}
    assert report.exit_code == 0


@pytest.mark.parametrize(("change", "rule", "message"), VIOLATIONS)
def test_a_violation_is_detected_by_its_rule_only(ir, settings, tmp_path, change, rule, message):
    report = check_changed(ir, tmp_path, change, settings.cluster)
    assert {violation.rule for violation in report.violations} == {rule}
    assert any(re.search(message, violation.message, re.DOTALL) for violation in report.violations), (
        report.violation_lines()
    )
    assert report.exit_code == 3


def test_every_rule_has_a_tested_violation_a_reason_and_a_source():
    assert {rule for _, rule, _ in VIOLATIONS} == {rule.name for rule in checks.RULES}
    assert all(rule.reason and re.search(r"\d\.\d", rule.source) for rule in checks.RULES)


def test_a_task_above_the_largest_node_is_refused(ir, tmp_path):
    small = params.load(None, [*OVERRIDES, "cluster.largest_node={cpu: 3500m, memory: 8Gi, gpus: 1}"]).cluster
    messages = [violation.message for violation in check_changed(ir, tmp_path, lambda *_: None, small).violations]
    requests = {re.sub(r" is above.*", "", message) for message in messages}
    assert "task train: cpu 4" in requests
    assert "task train: gpus 2" in requests
    assert "task train: memory 16Gi" in requests
    assert not [message for message in messages if "task evaluate" in message]


def test_secrets_of_the_namespace_can_be_declared(tmp_path):
    words = [*OVERRIDES, "cluster.secrets={team-s3: {id: AWS_ACCESS_KEY_ID}}"]
    with pytest.raises(UsageError, match="Secret team-s3 is in no overlay"):
        submit.compile_to(params.load(None, words), DATA, tmp_path / "x.yaml")
    submit.compile_to(params.load(None, [*words, "cluster.other_objects=[team-s3]"]), DATA, tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("ingest.clinical=data/raw/{{a}}.csv", "ingest.clinical"),
        ("register.contact=a $$ b", "register.contact"),
        ("cluster.environment={CACHE: $(HOME)}", "cluster.environment.CACHE"),
        ("cluster.experiment=a {{b}}", "cluster.experiment"),
        ("train.architecture={covariates: ['$(age)']}", r"train.architecture.covariates\[0\]"),
    ],
)
def test_a_value_that_the_engine_rewrites_is_refused_when_the_pipeline_is_compiled(word, field, tmp_path):
    with pytest.raises(UsageError, match=f"{field} contains"):
        submit.compile_to(params.load(None, [word]), "", tmp_path / "x.yaml")
    assert not list(tmp_path.iterdir()), "a refused pipeline leaves no file"


def test_a_data_version_that_the_engine_rewrites_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"data contains '\{\{'"):
        submit.compile_to(params.load(None), "{{x}}", tmp_path / "x.yaml")


def test_a_run_with_too_many_nodes_is_refused_at_compile_time(tmp_path):
    with pytest.raises(UsageError, match=r"about \d+ nodes, at most 1400 fit .*shards 200.*cluster.extract_shards"):
        submit.compile_to(params.load(None, ["cluster.extract_shards=200"]), "", tmp_path / "x.yaml")
    submit.compile_to(params.load(None, ["cluster.extract_shards=95", "split.folds=5"]), "", tmp_path / "x.yaml")


def test_the_estimate_of_nodes_agrees_with_an_observed_run(tmp_path):
    """On KFP 2.17.0 with Argo 4.0 a run with 3 folds, 2 shards and results in the remote, had 164 nodes.

    It was without the task `validate-features`, which has 6.
    """
    words = ["cluster.extract_shards=2", "split.folds=3", "cluster.remote=s3://mcti-data/dvc"]
    submit.compile_to(params.load(None, words), DATA, tmp_path / "x.yaml")
    assert size.nodes(read(tmp_path / "x.yaml")) == pytest.approx(164 + 6, rel=0.12)


def test_known_objects_are_those_of_the_overlays_and_of_the_documentation():
    texts = [
        path.read_text(encoding="utf-8") for path in (ROOT / "infra").rglob("*") if path.suffix in (".yaml", ".md")
    ]
    texts.append((ROOT / "docs" / "kubeflow.md").read_text(encoding="utf-8"))
    text = "\n".join(texts)
    for name, keys in {**pods.SECRETS, **pods.CONFIG_MAPS}.items():
        assert name in text
        for key in keys:
            assert re.search(rf"\b{key}\b", text), f"{name}.{key}"


def test_the_shipped_quota_is_that_of_the_base():
    manifests = yaml.safe_load_all((ROOT / "infra/kubernetes/base/quota.yaml").read_text(encoding="utf-8"))
    hard = next(manifest for manifest in manifests if manifest["kind"] == "ResourceQuota")["spec"]["hard"]
    quota = params.load(None).cluster.quota
    for field, name in {"cpu": "requests.cpu", "memory": "requests.memory", "cpu_limit": "limits.cpu"}.items():
        assert amount(getattr(quota, field)) == amount(str(hard[name]))


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("2", 2), ("1.5", 1.5), ("16Gi", 17179869184), ("3M", 3e6), ("1Ki", 1024)]
)
def test_quantities_of_kubernetes(text, number):
    assert amount(text) == number


INVALID_FILES = {
    "empty": ("", "an empty file"),
    "comment": ("# nothing\n---\n", "an empty file"),
    "text": ("hello\n", "not a compiled pipeline"),
    "list": ("- 1\n- 2\n", "not a compiled pipeline"),
    "argo": ("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n", "no pipelineInfo, no root"),
    "broken": ("a: [1\n", "not YAML"),
    "control": ("a: \x00\n", "not YAML"),
    "schema": ("pipelineInfo: {name: a}\nroot: {}\nschemaVersion: 2.0.0\n", "schema version '2.0.0', not 2.1.0"),
    "field": ("pipelineInfo: {name: a}\nroot: {}\nschemaVersion: 2.1.0\nno_field: 1\n", "not a compiled pipeline"),
    "kind": ("pipelineInfo: [a]\nroot: {}\nschemaVersion: 2.1.0\n", "not a compiled pipeline"),
    "circle": (
        "pipelineInfo: {name: a}\nschemaVersion: 2.1.0\nroot: {dag: {tasks: {a: {componentRef: {name: a}}}}}\n"
        "components: {a: {dag: {tasks: {a: {componentRef: {name: a}}}}}}\n",
        "components that contain each other",
    ),
}


@pytest.mark.parametrize("name", INVALID_FILES)
def test_an_invalid_file_is_one_clear_error(name, tmp_path):
    text, message = INVALID_FILES[name]
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        checks.check(tmp_path / "file.yaml", params.load(None).cluster)
    assert str(tmp_path / "file.yaml") in str(caught.value)


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        checks.check(tmp_path / "missing.yaml", params.load(None).cluster)
    with pytest.raises(DataError, match="a file was expected"):
        checks.check(tmp_path, params.load(None).cluster)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def _names(count: int) -> list:  # its items have the type STRING
    return list(range(count))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def _use(number: int):
    assert number >= 0


def test_a_pipeline_of_another_project_is_checked(tmp_path):
    @dsl.pipeline(name="other")
    def other(count: int = 3):
        with dsl.ParallelFor(_names(count=count).output) as number:
            _use(number=number)

    compiler.Compiler().compile(other, str(tmp_path / "other.yaml"))
    rules = {
        violation.rule for violation in checks.check(tmp_path / "other.yaml", params.load(None).cluster).violations
    }
    assert {"parameter-types", "pod-security", "image-digest"} <= rules


@pytest.mark.slow
def test_the_command_prints_one_line_per_rule_and_exits_with_3(ir, tmp_path):
    documents = copy.deepcopy(ir)
    root_user(*documents)
    rewritten_parameter(*documents)
    file = _write(tmp_path / "planted.yaml", documents)
    command = [sys.executable, "-c", "import sys; from mcti.cli import main; sys.exit(main())", "pipeline", "check"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 2
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
    assert done.stdout.count("  passed: ") == len(checks.RULES) - 2
    assert "note: retries of failed tasks need COMPILED_PIPELINE_SPEC_PATCH" in done.stdout
    done = subprocess.run([*command, str(file), "--json"], capture_output=True, text=True, check=False, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert {violation["rule"] for violation in report["violations"]} == {"pod-security", "rewritten-values"}
    assert done.returncode == 3
