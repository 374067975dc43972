"""Changes of a compiled pipeline, each of which violates one rule of `pipelines/checks`."""

import json

from mcti.pipelines.checks import size


def tasks_of(spec, component="exit-handler-1"):
    return spec["components"][f"comp-{component}"]["dag"]["tasks"]


def container_of(spec, name):
    return spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]


def pod_of(platform, name):
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]


def loop_item_as_text(spec, _):
    loop = spec["components"]["comp-for-loop-4"]["inputDefinitions"]["parameters"]
    loop["pipelinechannel--split-Output-loop-item"]["parameterType"] = "STRING"


def static_items_as_text(spec, _):
    tasks_of(spec)["for-loop-3"]["parameterIterator"]["items"]["raw"] = '["a", "b"]'


def constant_of_another_type(spec, _):
    tasks_of(spec, "for-loop-3")["extract"]["inputs"]["parameters"]["shards"]["runtimeValue"]["constant"] = "three"


def default_maximum(spec, _):
    tasks_of(spec)["ingest"]["retryPolicy"]["backoffMaxDuration"] = "3600s"


def no_maximum(spec, _):
    del tasks_of(spec)["ingest"]["retryPolicy"]["backoffMaxDuration"]


def default_maximum_without_timeout(spec, platform):
    tasks_of(spec)["ingest"]["retryPolicy"]["backoffMaxDuration"] = "3600s"
    del pod_of(platform, "ingest")["activeDeadlineSeconds"]


def search_time_beyond_the_timeout(spec, _):
    parameter = spec["root"]["inputDefinitions"]["parameters"]["search"]
    parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), "timeout_minutes": 720})


def retry_time_beyond_the_timeout(spec, _):
    for pair in container_of(spec, "split")["env"]:
        if pair["name"] == "MCTI_PATIENCE_SECONDS":
            pair["value"] = "900"


def tag_with_cache(spec, _):
    container_of(spec, "ingest")["image"] = "registry.example/mcti-python:0.1.0"


def too_many_cores(spec, _):
    container_of(spec, "train")["resources"].update(resourceCpuRequest="65", resourceCpuLimit="65")


def limit_below_the_request(spec, _):
    container_of(spec, "train")["resources"].update(resourceMemoryLimit="15Gi")


def invalid_quantity(spec, _):
    container_of(spec, "train")["resources"].update(resourceMemoryLimit="lots")


def shared_memory_above_memory(_, platform):
    for mount in pod_of(platform, "train")["emptyDirMounts"]:
        if mount["mountPath"] == "/dev/shm":
            mount["sizeLimit"] = "17Gi"


def unknown_secret(_, platform):
    entry = pod_of(platform, "train")["secretAsEnv"][0]
    entry["secretName"] = entry["secretNameParameter"]["runtimeValue"]["constant"] = "mcti-s4"


def unknown_key(_, platform):
    pod_of(platform, "train")["configMapAsEnv"][0]["keyToEnv"][0]["configMapKey"] = "S3"


def text_value(text, name="ingest", key="clinical"):
    def change(spec, _):
        parameter = spec["root"]["inputDefinitions"]["parameters"][name]
        parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), key: text})

    return change


def rewritten_key(spec, _):
    parameter = spec["root"]["inputDefinitions"]["parameters"]["ingest"]
    parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), "columns": {"{{x}}": "age"}})


def rewritten_parameter(spec, _):
    spec["root"]["inputDefinitions"]["parameters"]["data"]["defaultValue"] = "{{workflow.name}}"


def rewritten_constant(spec, _):
    parameters = tasks_of(spec)["publish"]["inputs"]["parameters"]["remote"]
    parameters["runtimeValue"]["constant"] = "s3://mcti$$/dvc"


def rewritten_variable(spec, _):
    container_of(spec, "train")["env"].append({"name": "CACHE", "value": "$(HOME)/cache"})


def rewritten_toleration(_, platform):
    pod_of(platform, "train")["tolerations"][0]["value"] = "$(NODE)"


def root_user(_, platform):
    pod_of(platform, "train")["securityContext"]["runAsUser"] = "0"


def no_security_context(_, platform):
    del pod_of(platform, "train")["securityContext"]


def mount_in(folder):
    def change(_, platform):
        pod_of(platform, "train")["pvcMount"][0]["mountPath"] = folder

    return change


def no_tmp(_, platform):
    mounts = pod_of(platform, "train")["emptyDirMounts"]
    mounts[:] = [mount for mount in mounts if mount["mountPath"] != "/tmp"]


def long_pipeline(spec, _):
    spec["pipelineInfo"]["name"] = "m" * 58


def long_claim(_, platform):
    pod_of(platform, "train")["pvcMount"][0]["constant"] = "c" * 64


def long_label(_, platform):
    pod_of(platform, "train")["nodeSelector"]["labels"]["accelerator"] = "a" * 64


def large_file(spec, _):
    spec["pipelineInfo"]["description"] = "x" * size.LARGEST


def many_shards(spec, _):
    tasks_of(spec)["for-loop-3"]["parameterIterator"]["items"]["raw"] = json.dumps(list(range(120)))


def many_folds(spec, _):
    parameter = spec["root"]["inputDefinitions"]["parameters"]["split"]
    parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), "folds": 10, "repeats": 12})


def source_in(folder):
    def change(spec, _):
        parameter = spec["root"]["inputDefinitions"]["parameters"]["train"]
        sources = [{"cohort": "s3://bucket/cohort", "features": folder}]
        parameter["defaultValue"] = json.dumps({**json.loads(parameter["defaultValue"]), "sources": sources})

    return change


VIOLATIONS = [
    (loop_item_as_text, "parameter-types", "task train, parameter fold: a loop item has type STRING.*NUMBER_INTEGER"),
    (static_items_as_text, "parameter-types", "loop shards: item 'a' is not of type NUMBER_INTEGER"),
    (constant_of_another_type, "parameter-types", "task extract, parameter shards"),
    (default_maximum, "retry-duration", "task ingest: retries end 3600 s .* need 5490 s"),
    (no_maximum, "retry-duration", "task ingest: 2 retries without a maximum duration"),
    (default_maximum_without_timeout, "retry-duration", "task ingest: maximum duration 3600 s is the SDK's default"),
    (
        search_time_beyond_the_timeout,
        "timeout",
        "task search: time-out 43200 s, but search.timeout_minutes allows 43200 s",
    ),
    (retry_time_beyond_the_timeout, "timeout", "task split: time-out 900 s, .*MCTI_PATIENCE_SECONDS"),
    (tag_with_cache, "image-digest", "task ingest: image registry.example/mcti-python:0.1.0 without digest"),
    (too_many_cores, "resources", "task train: cpu 65 is above the 64 of cluster.quota"),
    (limit_below_the_request, "resources", "task train: memory 16Gi is above its limit 15Gi"),
    (invalid_quantity, "resources", "task train: 'lots' is no quantity"),
    (shared_memory_above_memory, "resources", "task train: /dev/shm of 17Gi is above the memory limit 16Gi"),
    (unknown_secret, "objects", "task train: Secret mcti-s4 is in no overlay"),
    (unknown_key, "objects", "task train: ConfigMap mcti-services has no key S3: its keys are mlflow, s3"),
    (text_value("data/$$/clinical.csv"), "rewritten-values", r"ingest.clinical contains '\$\$'"),
    (text_value("data/{{x}}/clinical.csv"), "rewritten-values", "ingest.clinical contains '{{'"),
    (text_value("data/x}}/clinical.csv"), "rewritten-values", "ingest.clinical contains '}}'"),
    (text_value("$(HOME)/clinical.csv"), "rewritten-values", r"ingest.clinical contains '\$\(HOME\)'"),
    (text_value("{{=1}}", "register", "contact"), "rewritten-values", "register.contact contains"),
    (rewritten_key, "rewritten-values", "ingest.columns"),
    (rewritten_parameter, "rewritten-values", "data contains '{{'"),
    (rewritten_constant, "rewritten-values", "task publish, parameter remote contains"),
    (rewritten_variable, "rewritten-values", "task train, environment variable CACHE contains"),
    (rewritten_toleration, "rewritten-values", r"task train, Kubernetes.tolerations\[0\].value contains"),
    (root_user, "pod-security", "task train: no user other than root"),
    (no_security_context, "pod-security", "task train: no user other than root"),
    (mount_in("/etc/mcti"), "mounts", "mount in '/etc/mcti' is in a folder of the image"),
    (mount_in("/minio"), "mounts", "mount in '/minio' is in a folder"),
    (mount_in("/tmp"), "mounts", "mount in '/tmp' is mounted twice"),
    (mount_in("/a/../etc"), "mounts", "is not a plain absolute path"),
    (mount_in("relative"), "mounts", "is not a plain absolute path"),
    (no_tmp, "mounts", "task train: no volume in /tmp"),
    (long_pipeline, "names", "pipeline name 'm+': 57 characters"),
    (long_claim, "names", "claim name 'c+': 63 characters"),
    (long_label, "names", "label accelerator=a+ is longer than 63"),
    (large_file, "file-size", "at most 1048576 fit"),
    (many_shards, "fan-out", "shards 120.*: lower cluster.extract_shards, split.folds"),
    (many_folds, "fan-out", "folds 120"),
    (source_in("../lung/features"), "readable-sources", "train.sources.0.features '../lung/features' is a folder"),
    (source_in("/mnt/../features"), "readable-sources", "publish it with `mcti data publish`"),
]
