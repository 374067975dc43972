"""Rules over compiled pipelines: what we compile keeps them, and a planted violation of each is found."""

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
from pipelines import checks, submit
from pipelines.checks import objects, size
from pipelines.checks.document import read
from tests.pipelines.conftest import DATA, OVERRIDES

ROOT = Path(__file__).parents[2]
STUDY = "search.storage=postgresql://mcti@postgres.mcti/optuna"


def _write(path, documents):
    path.write_text("\n---\n".join(json.dumps(tree) for tree in documents), encoding="utf-8")  # JSON is YAML
    return path


def _broken(ir, tmp_path, change, cluster):
    """The report on the compiled file after `change`."""
    documents = copy.deepcopy(ir)
    change(*documents)
    return checks.check(_write(tmp_path / "planted.yaml", documents), cluster)


def _tasks(spec, component="exit-handler-1"):
    return spec["components"][f"comp-{component}"]["dag"]["tasks"]


def _container(spec, name):
    return spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]


def _pod(platform, name):
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]


@pytest.mark.parametrize("pipeline", submit.PIPELINES)
@pytest.mark.parametrize("more", [[], ["cluster.search_workers=3", STUDY], ["cluster.extract_shards=40"]])
def test_every_pipeline_keeps_every_rule(pipeline, more, tmp_path):
    settings = params.load(None, [*OVERRIDES, *more])
    submit.compile_to(settings, DATA, tmp_path / "file.yaml", pipeline)
    report = checks.check(tmp_path / "file.yaml", settings.cluster)
    assert report.violations == ()
    assert set(report.passed) == {rule.name for rule in checks.RULES}
    assert report.exit_code == 0


def _loop_item_as_text(spec, _):
    loop = spec["components"]["comp-for-loop-4"]["inputDefinitions"]["parameters"]
    loop["pipelinechannel--split-Output-loop-item"]["parameterType"] = "STRING"


def _static_items_as_text(spec, _):
    _tasks(spec)["for-loop-3"]["parameterIterator"]["items"]["raw"] = '["a", "b"]'


def _constant_of_another_type(spec, _):
    _tasks(spec, "for-loop-3")["extract"]["inputs"]["parameters"]["shards"]["runtimeValue"]["constant"] = "three"


def _default_maximum(spec, _):
    _tasks(spec)["ingest"]["retryPolicy"]["backoffMaxDuration"] = "3600s"


def _no_maximum(spec, _):
    del _tasks(spec)["ingest"]["retryPolicy"]["backoffMaxDuration"]


def _default_maximum_without_timeout(spec, platform):
    _tasks(spec)["ingest"]["retryPolicy"]["backoffMaxDuration"] = "3600s"
    del _pod(platform, "ingest")["activeDeadlineSeconds"]


def _minutes_beyond_the_timeout(spec, _):
    parameter = spec["root"]["inputDefinitions"]["parameters"]["search"]
    parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), "timeout_minutes": 720})


def _patience_beyond_the_timeout(spec, _):
    for pair in _container(spec, "split")["env"]:
        if pair["name"] == "MCTI_PATIENCE_SECONDS":
            pair["value"] = "900"


def _tag_with_cache(spec, _):
    _container(spec, "ingest")["image"] = "registry.example/mcti-python:0.1.0"


def _too_many_cores(spec, _):
    _container(spec, "train")["resources"].update(resourceCpuRequest="65", resourceCpuLimit="65")


def _limit_below_the_request(spec, _):
    _container(spec, "train")["resources"].update(resourceMemoryLimit="15Gi")


def _no_quantity(spec, _):
    _container(spec, "train")["resources"].update(resourceMemoryLimit="lots")


def _shared_memory_above_memory(_, platform):
    for mount in _pod(platform, "train")["emptyDirMounts"]:
        if mount["mountPath"] == "/dev/shm":
            mount["sizeLimit"] = "17Gi"


def _unknown_secret(_, platform):
    entry = _pod(platform, "train")["secretAsEnv"][0]
    entry["secretName"] = entry["secretNameParameter"]["runtimeValue"]["constant"] = "mcti-s4"


def _unknown_key(_, platform):
    _pod(platform, "train")["configMapAsEnv"][0]["keyToEnv"][0]["configMapKey"] = "S3"


def _text(text, name="ingest", key="clinical"):
    def change(spec, _):
        parameter = spec["root"]["inputDefinitions"]["parameters"][name]
        parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), key: text})

    return change


def _key_of_a_mapping(spec, _):
    parameter = spec["root"]["inputDefinitions"]["parameters"]["ingest"]
    parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), "columns": {"{{x}}": "age"}})


def _plain_parameter(spec, _):
    spec["root"]["inputDefinitions"]["parameters"]["data"]["defaultValue"] = "{{workflow.name}}"


def _constant(spec, _):
    parameters = _tasks(spec)["publish"]["inputs"]["parameters"]["remote"]
    parameters["runtimeValue"]["constant"] = "s3://mcti$$/dvc"


def _variable(spec, _):
    _container(spec, "train")["env"].append({"name": "CACHE", "value": "$(HOME)/cache"})


def _toleration(_, platform):
    _pod(platform, "train")["tolerations"][0]["value"] = "$(NODE)"


def _root(_, platform):
    _pod(platform, "train")["securityContext"]["runAsUser"] = "0"


def _nobody(_, platform):
    del _pod(platform, "train")["securityContext"]


def _mount(folder):
    def change(_, platform):
        _pod(platform, "train")["pvcMount"][0]["mountPath"] = folder

    return change


def _no_tmp(_, platform):
    mounts = _pod(platform, "train")["emptyDirMounts"]
    mounts[:] = [mount for mount in mounts if mount["mountPath"] != "/tmp"]


def _long_pipeline(spec, _):
    spec["pipelineInfo"]["name"] = "m" * 58


def _long_claim(_, platform):
    _pod(platform, "train")["pvcMount"][0]["constant"] = "c" * 64


def _long_label(_, platform):
    _pod(platform, "train")["nodeSelector"]["labels"]["accelerator"] = "a" * 64


def _large(spec, _):
    spec["pipelineInfo"]["description"] = "x" * size.LARGEST


def _wide(spec, _):
    _tasks(spec)["for-loop-3"]["parameterIterator"]["items"]["raw"] = json.dumps(list(range(120)))


def _many_folds(spec, _):
    parameter = spec["root"]["inputDefinitions"]["parameters"]["split"]
    parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), "folds": 10, "repeats": 12})


PLANTED = [
    (_loop_item_as_text, "parameter-types", "task train, parameter fold: a loop item has type STRING.*NUMBER_INTEGER"),
    (_static_items_as_text, "parameter-types", "loop shards: item 'a' is not of type NUMBER_INTEGER"),
    (_constant_of_another_type, "parameter-types", "task extract, parameter shards"),
    (_default_maximum, "retry-duration", "task ingest: retries end 3600 s .* need 5490 s"),
    (_no_maximum, "retry-duration", "task ingest: 2 retries without a maximum duration"),
    (_default_maximum_without_timeout, "retry-duration", "task ingest: maximum duration 3600 s is the SDK's default"),
    (
        _minutes_beyond_the_timeout,
        "timeout",
        "task search: time-out 43200 s, but search.timeout_minutes allows 43200 s",
    ),
    (_patience_beyond_the_timeout, "timeout", "task split: time-out 900 s, .*MCTI_PATIENCE_SECONDS"),
    (_tag_with_cache, "image-digest", "task ingest: image registry.example/mcti-python:0.1.0 without digest"),
    (_too_many_cores, "resources", "task train: cpu 65 is above the 64 of cluster.quota"),
    (_limit_below_the_request, "resources", "task train: memory 16Gi is above its limit 15Gi"),
    (_no_quantity, "resources", "task train: 'lots' is no quantity"),
    (_shared_memory_above_memory, "resources", "task train: /dev/shm of 17Gi is above the memory limit 16Gi"),
    (_unknown_secret, "objects", "task train: Secret mcti-s4 is in no overlay"),
    (_unknown_key, "objects", "task train: ConfigMap mcti-services has no key S3: its keys are mlflow, s3"),
    (_text("data/$$/clinical.csv"), "rewritten-values", r"ingest.clinical contains '\$\$'"),
    (_text("data/{{x}}/clinical.csv"), "rewritten-values", "ingest.clinical contains '{{'"),
    (_text("data/x}}/clinical.csv"), "rewritten-values", "ingest.clinical contains '}}'"),
    (_text("$(HOME)/clinical.csv"), "rewritten-values", r"ingest.clinical contains '\$\(HOME\)'"),
    (_text("{{=1}}", "register", "contact"), "rewritten-values", "register.contact contains"),
    (_key_of_a_mapping, "rewritten-values", "ingest.columns"),
    (_plain_parameter, "rewritten-values", "data contains '{{'"),
    (_constant, "rewritten-values", "task publish, parameter remote contains"),
    (_variable, "rewritten-values", "task train, environment variable CACHE contains"),
    (_toleration, "rewritten-values", r"task train, Kubernetes.tolerations\[0\].value contains"),
    (_root, "pod-security", "task train: no user other than root"),
    (_nobody, "pod-security", "task train: no user other than root"),
    (_mount("/etc/mcti"), "mounts", "mount in '/etc/mcti' is in a folder of the image"),
    (_mount("/minio"), "mounts", "mount in '/minio' is in a folder"),
    (_mount("/tmp"), "mounts", "mount in '/tmp' is mounted twice"),
    (_mount("/a/../etc"), "mounts", "is not a plain absolute path"),
    (_mount("relative"), "mounts", "is not a plain absolute path"),
    (_no_tmp, "mounts", "task train: no volume in /tmp"),
    (_long_pipeline, "names", "pipeline name 'm+': 57 characters"),
    (_long_claim, "names", "claim name 'c+': 63 characters"),
    (_long_label, "names", "label accelerator=a+ is longer than 63"),
    (_large, "file-size", "at most 1048576 fit"),
    (_wide, "fan-out", "shards 120.*: lower cluster.extract_shards, split.folds"),
    (_many_folds, "fan-out", "folds 120"),
]


@pytest.mark.parametrize(("change", "rule", "message"), PLANTED)
def test_a_planted_violation_is_found_by_its_rule_alone(ir, settings, tmp_path, change, rule, message):
    report = _broken(ir, tmp_path, change, settings.cluster)
    assert {entries.rule for entries in report.violations} == {rule}
    assert any(re.search(message, entries.message, re.DOTALL) for entries in report.violations), (
        report.violation_lines()
    )
    assert report.exit_code == 3


def test_every_rule_has_a_planted_violation_a_reason_and_a_source():
    assert {rule for _, rule, _ in PLANTED} == {rule.name for rule in checks.RULES}
    assert all(rule.reason and re.search(r"\d\.\d", rule.source) for rule in checks.RULES)


def test_a_task_above_the_largest_node_is_refused(ir, tmp_path):
    small = params.load(None, [*OVERRIDES, "cluster.largest_node={cpu: 3500m, memory: 8Gi, gpus: 1}"]).cluster
    entries = [violation.message for violation in _broken(ir, tmp_path, lambda *_: None, small).violations]
    shown = {re.sub(r" is above.*", "", line) for line in entries}
    assert "task train: cpu 4" in shown
    assert "task train: gpus 2" in shown
    assert "task train: memory 16Gi" in shown
    assert not [line for line in entries if "task evaluate" in line]


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


def test_a_wide_run_is_refused_when_it_is_compiled_and_a_hundred_iterations_fit(tmp_path):
    with pytest.raises(UsageError, match=r"about \d+ nodes, at most 1400 fit .*shards 200.*cluster.extract_shards"):
        submit.compile_to(params.load(None, ["cluster.extract_shards=200"]), "", tmp_path / "x.yaml")
    submit.compile_to(params.load(None, ["cluster.extract_shards=95", "split.folds=5"]), "", tmp_path / "x.yaml")


def test_the_estimate_of_nodes_agrees_with_a_run_that_was_counted(tmp_path):
    """On KFP 2.17.0 with Argo 4.0 a run of 3 folds and 2 shards, with results sent to the remote, had 164 nodes."""
    words = ["cluster.extract_shards=2", "split.folds=3", "cluster.remote=s3://mcti-data/dvc"]
    submit.compile_to(params.load(None, words), DATA, tmp_path / "x.yaml")
    assert size.nodes(read(tmp_path / "x.yaml")) == pytest.approx(164, rel=0.12)


def test_known_objects_are_those_of_the_overlays_and_of_the_documents():
    texts = [
        path.read_text(encoding="utf-8") for path in (ROOT / "infra").rglob("*") if path.suffix in (".yaml", ".md")
    ]
    texts.append((ROOT / "docs" / "kubeflow.md").read_text(encoding="utf-8"))
    everything = "\n".join(texts)
    for name, keys in {**objects.SECRETS, **objects.CONFIG_MAPS}.items():
        assert name in everything
        for key in keys:
            assert re.search(rf"\b{key}\b", everything), f"{name}.{key}"


def test_the_shipped_quota_is_that_of_the_base():
    manifests = yaml.safe_load_all((ROOT / "infra/kubernetes/base/quota.yaml").read_text(encoding="utf-8"))
    hard = next(entries for entries in manifests if entries["kind"] == "ResourceQuota")["spec"]["hard"]
    quota = params.load(None).cluster.quota
    for field, name in {"cpu": "requests.cpu", "memory": "requests.memory", "cpu_limit": "limits.cpu"}.items():
        assert amount(getattr(quota, field)) == amount(str(hard[name]))


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("2", 2), ("1.5", 1.5), ("16Gi", 17179869184), ("3M", 3e6), ("1Ki", 1024)]
)
def test_quantities_of_kubernetes(text, number):
    assert amount(text) == number


BAD = {
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


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_pipeline_is_one_clear_error(name, tmp_path):
    text, message = BAD[name]
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
def _names(count: int) -> list:  # the fault of issue #17: items of type STRING
    return list(range(count))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def _use(number: int):
    assert number >= 0


def test_a_pipeline_of_somebody_else_is_checked_too(tmp_path):
    @dsl.pipeline(name="theirs")
    def theirs(count: int = 3):
        with dsl.ParallelFor(_names(count=count).output) as number:
            _use(number=number)

    compiler.Compiler().compile(theirs, str(tmp_path / "theirs.yaml"))
    entries = {
        violation.rule for violation in checks.check(tmp_path / "theirs.yaml", params.load(None).cluster).violations
    }
    assert {"parameter-types", "pod-security", "image-digest"} <= entries


@pytest.mark.slow
def test_the_command_prints_one_line_per_rule_and_ends_with_3(ir, tmp_path):
    documents = copy.deepcopy(ir)
    _root(*documents)
    _plain_parameter(*documents)
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
    assert {entries["rule"] for entries in report["violations"]} == {"pod-security", "rewritten-values"}
    assert done.returncode == 3
