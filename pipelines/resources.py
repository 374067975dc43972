"""Image, resources, retries, environment and volumes of a task: all from the section `cluster` of params.yaml."""

from kfp import dsl, kubernetes

from mcti.params import ClusterParams, TaskParams

USER = 10001  # the user of the image (Dockerfile)


def configure(
    task: dsl.PipelineTask, name: str, cluster: ClusterParams, *, cache: bool, version: str
) -> dsl.PipelineTask:
    """Give `task` the image, resources, retries, time-out, secrets and volumes of row `name`.

    name    alias of a row of `cluster.steps`
    cache   whether KFP may reuse the result of an equal task; true only where image, settings and inputs identify it
    version of the pipeline
    """
    row: TaskParams = next(
        getattr(cluster.steps, attribute)
        for attribute, field in type(cluster.steps).model_fields.items()
        if name == (field.alias or attribute)
    )
    task.set_container_image(cluster.image)
    task.set_caching_options(cache)
    _size(task, row)
    if row.retries:
        # Without a maximum the SDK writes one hour, counted from the first attempt's start.
        maximum = f"{row.retry_seconds}s"
        task.set_retry(row.retries, f"{row.backoff_seconds}s", backoff_factor=2.0, backoff_max_duration=maximum)
    kubernetes.set_timeout(task, seconds=row.timeout_minutes * 60)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    _nodes(task, row, cluster)
    _environment(task, row, cluster, version)
    _volumes(task, row, cluster)
    return task


def _size(task: dsl.PipelineTask, row: TaskParams) -> None:
    task.set_cpu_request(row.cpu).set_cpu_limit(row.cpu_limit or row.cpu)
    task.set_memory_request(row.memory).set_memory_limit(row.memory_limit or row.memory)


def _nodes(task: dsl.PipelineTask, row: TaskParams, cluster: ClusterParams) -> None:
    for key, value in (cluster.gpu_node_labels if row.gpus else cluster.node_labels).items():
        kubernetes.add_node_selector(task, key, value)
    if not row.gpus:
        return
    task.set_accelerator_type(cluster.gpu_resource).set_accelerator_limit(row.gpus)
    for taint in cluster.gpu_tolerations:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value, taint.effect)


def identity(cluster: ClusterParams, version: str) -> dict[str, str]:
    """Environment variables that identify pipeline and image of a task (mcti/registry/pipeline_run.py).

    They are variables, not parameters, since the environment is no part of the key of KFP's cache.
    """
    names = {"MCTI_IMAGE": cluster.image, "MCTI_PIPELINE": version, "MCTI_EXPERIMENT": cluster.experiment}
    names |= {"MCTI_LOG_LEVEL": cluster.log_level}
    return names | ({"MCTI_REMOTE": cluster.remote} if cluster.remote else {})


def _environment(task: dsl.PipelineTask, row: TaskParams, cluster: ClusterParams, version: str) -> None:
    between_attempts = {"MCTI_CHECKPOINTS": cluster.checkpoints} if cluster.checkpoints else {}
    # How long the next attempt may use a recorded refusal (mcti/registry/refusals.py).
    between_attempts |= {"MCTI_RETRY_SECONDS": str(row.refusal_seconds)} if row.retries else {}
    for name, value in {**cluster.environment, **identity(cluster, version), **between_attempts}.items():
        task.set_env_variable(name, value)
    # KFP's API server labels every pod with the id of its run.
    kubernetes.use_field_path_as_env(task, "MCTI_RUN", "metadata.labels['pipeline/runid']")
    for name, keys in cluster.secrets.items():
        kubernetes.use_secret_as_env(task, name, keys)
    for name, keys in cluster.config_maps.items():
        kubernetes.use_config_map_as_env(task, name, keys)


def _volumes(task: dsl.PipelineTask, row: TaskParams, cluster: ClusterParams) -> None:
    # The root file system of the container may be read-only: all temporary files are written to this volume.
    kubernetes.empty_dir_mount(task, "scratch", "/tmp")  # noqa: S108  (a mount point in the container)  # nosec B108
    if row.shared_memory:
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", "Memory", row.shared_memory)  # noqa: S108  # nosec B108
    for claim, folder in cluster.claims.items():
        kubernetes.mount_pvc(task, claim, folder)
