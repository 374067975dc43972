"""The settings of Kubeflow: resources, secrets and schedule of the tasks; the section `cluster`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mcti.params import cron
from mcti.params.base import Params
from mcti.params.quantities import amount

# Names that Kubernetes accepts; it would refuse another one only when the task starts.
_Object = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$")]
_Key = Annotated[str, Field(pattern=r"^[-._A-Za-z0-9]+$")]
_Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Label = Annotated[str, Field(pattern=r"^([a-z0-9][-.a-z0-9]*/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$")]
_Value = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$")]
_Cores = Annotated[
    str,
    BeforeValidator(lambda cores: str(cores) if type(cores) in (int, float) else cores),
    Field(pattern=r"^([1-9]\d*(\.\d+)?|0\.\d*[1-9]\d*|[1-9]\d*m)$"),
]
_Memory = Annotated[str, Field(pattern=r"^[1-9]\d*(Mi|Gi|M|G)$")]


class TaskParams(Params):
    """Resources of one task of a cluster: requests are reserved, limits are maxima. A null limit equals its request."""

    cpu: _Cores = Field("2", description="cores requested, e.g. 4 or 500m")
    cpu_limit: _Cores | None = Field(None, description="cores at most; null: those requested")
    memory: _Memory = Field("4Gi", description="memory requested, e.g. 16Gi")
    memory_limit: _Memory | None = Field(
        None, description="memory at most, above it the task is killed; null: the memory requested"
    )
    gpus: int = Field(0, ge=0, description="GPUs of the type cluster.gpu_resource")
    retries: int = Field(2, ge=0, le=10, description="further attempts after a failed attempt")
    backoff_seconds: int = Field(30, ge=1, description="wait before the first retry; doubles with each")
    timeout_minutes: int = Field(120, ge=1, description="an attempt that runs longer is stopped")
    shared_memory: str | None = Field(
        None, pattern=r"^[1-9]\d*(Mi|Gi)$", description="size of /dev/shm; null: none mounted"
    )

    @property
    def wait_seconds(self) -> int:
        """Sum of the waits between the attempts, which double: backoff x (2^retries - 1)."""
        return self.backoff_seconds * ((1 << self.retries) - 1)

    @property
    def retry_seconds(self) -> int:
        """Maximum duration of all attempts, in seconds, counted from the start of the first one.

        attempts x time-out + waits: (retries + 1) x timeout + backoff x (2^retries - 1)
        """
        return (self.retries + 1) * self.timeout_minutes * 60 + self.wait_seconds

    @property
    def refusal_seconds(self) -> int:
        """Seconds during which the refusal of an attempt is valid for the next: the waits, and ten minutes per pod.

        It is limited so that a run that is repeated after a repair of its data starts again.
        """
        return self.wait_seconds + 600 * self.retries

    @model_validator(mode="after")
    def _limits_hold_the_requests(self) -> Self:
        pairs = {"cpu": (self.cpu, self.cpu_limit), "memory": (self.memory, self.memory_limit)}
        for name, (request, limit) in pairs.items():
            if limit is not None and amount(limit) < amount(request):
                raise ValueError(f"{name}_limit {limit} is below {name} {request}: raise the limit or request less")
        return self


class TaskTable(Params):
    """One row per step; `utility`: tasks that only merge files, publish or report."""

    ingest: TaskParams = TaskParams(cpu="1", memory="4Gi", timeout_minutes=30)
    validation: TaskParams = Field(TaskParams(cpu="1", memory="4Gi", retries=0, timeout_minutes=30), alias="validate")
    extract: TaskParams = TaskParams(cpu="4", memory="8Gi", retries=3, timeout_minutes=720)
    validate_features: TaskParams = TaskParams(cpu="1", memory="4Gi", retries=0, timeout_minutes=120)
    split: TaskParams = TaskParams(cpu="1", memory="2Gi", timeout_minutes=15)
    search: TaskParams = TaskParams(cpu="4", memory="16Gi", timeout_minutes=720, shared_memory="2Gi")
    train: TaskParams = TaskParams(cpu="4", memory="16Gi", retries=3, timeout_minutes=720, shared_memory="2Gi")
    pretrain: TaskParams = TaskParams(cpu="4", memory="32Gi", retries=3, timeout_minutes=1440, shared_memory="2Gi")
    evaluate: TaskParams = TaskParams(cpu="2", memory="8Gi", timeout_minutes=120)
    register_: TaskParams = Field(TaskParams(cpu="1", memory="4Gi", timeout_minutes=30), alias="register")
    test: TaskParams = TaskParams(cpu="2", memory="8Gi", timeout_minutes=120)
    promote: TaskParams = TaskParams(cpu="1", memory="4Gi", retries=0, timeout_minutes=30)
    predict: TaskParams = TaskParams(cpu="2", memory="8Gi", timeout_minutes=120)
    explain: TaskParams = TaskParams(cpu="2", memory="8Gi", timeout_minutes=240)
    monitor: TaskParams = TaskParams(cpu="1", memory="8Gi", timeout_minutes=60)
    utility: TaskParams = TaskParams(cpu="500m", memory="1Gi", timeout_minutes=60)

    @model_validator(mode="before")
    @classmethod
    def _keep_the_row(cls, tree: Any) -> Any:
        """A missing key has the default of its row, not the one of `TaskParams`."""
        if not isinstance(tree, dict):
            return tree
        rows = {field.alias or name: field.default for name, field in cls.model_fields.items()}
        return {
            name: rows[name].model_dump() | (row or {}) if name in rows and isinstance(row, dict | None) else row
            for name, row in tree.items()
        }


class NodeParams(Params):
    """What the largest node of the cluster offers to pods (`allocatable` of `kubectl describe node`)."""

    cpu: _Cores = Field(description="cores")
    memory: _Memory = Field(description="memory, e.g. 60Gi")
    gpus: int = Field(0, ge=0, description="GPUs of the type cluster.gpu_resource")


class QuotaParams(Params):
    """ResourceQuota of the namespace in which the tasks run; null: no bound."""

    cpu: _Cores | None = Field(None, description="cores requested (requests.cpu)")
    memory: _Memory | None = Field(None, description="memory requested (requests.memory)")
    cpu_limit: _Cores | None = Field(None, description="sum of the limits of cores (limits.cpu)")
    memory_limit: _Memory | None = Field(None, description="sum of the limits of memory (limits.memory)")
    gpus: int | None = Field(None, ge=0, description="GPUs (requests.nvidia.com/gpu)")


class TolerationParams(Params):
    """A taint that the tasks tolerate."""

    key: str = Field(description="key of the taint")
    operator: Literal["Equal", "Exists"] = Field("Exists", description="Equal also compares the value")
    value: str | None = Field(None, description="value of the taint, for Equal")
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"] = Field(
        "NoSchedule", description="effect of the taint"
    )


class ClusterParams(Params):
    """Kubeflow: image, resources and secrets of the tasks (docs/kubeflow.md)."""

    image: str = Field("mcti-python:0.1.0", pattern=r"^\S+$", description="image of all tasks; pin it by digest")
    pipeline: str = Field(
        "mcti",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$",
        description="name of the pipelines; -training, -retraining, -inference or -pretraining follows",
    )
    experiment: str = Field("mcti", min_length=1, description="KFP experiment of the runs")
    kfp_version: str = Field(
        "2.17",
        pattern=r"^\d+\.\d+$",
        description="minor version of Kubeflow Pipelines; a server with another version is refused",
    )
    cron: str = Field("0 0 3 1 * *", description="schedule of the retraining; six fields, seconds first, UTC")
    remote: str | None = Field(
        None,
        pattern=r"^s3://[^/]+(/.*[^/])?$",
        description="DVC's remote, s3://bucket/prefix: sources are read by MD5, results are uploaded; null: neither",
    )
    lease_hours: int = Field(48, ge=1, description="a retraining that was killed blocks the next one no longer")
    run_ttl_hours: int | None = Field(
        None,
        ge=1,
        le=24 * 365,
        description="hours after which pods and logs of an ended run are deleted, as shipped a day at most "
        "(docs/kubeflow.md); null: as the server sets it, one hour as shipped",
    )
    extract_shards: int = Field(4, ge=1, le=1024, description="parallel tasks of extract and of the heatmaps")
    search_workers: int = Field(
        1, ge=1, le=256, description="parallel tasks of search; more than one requires search.storage in PostgreSQL"
    )
    parallel_folds: int = Field(0, ge=0, description="folds trained at the same time; 0: all")
    steps: TaskTable = TaskTable()
    largest_node: NodeParams | None = Field(
        None,
        description="what the largest node offers; `mcti pipeline check` refuses tasks above it; null: not checked",
    )
    quota: QuotaParams | None = Field(
        QuotaParams(cpu="64", memory="512Gi", cpu_limit="128", memory_limit="512Gi"),
        description="quota of the namespace, as shipped that of infra/kubernetes/base; "
        "`mcti pipeline check` refuses tasks above it; null: not checked",
    )
    gpu_resource: _Label = Field("nvidia.com/gpu", description="resource name of the GPUs")
    gpu_node_labels: dict[_Label, _Value] = Field({}, description="labels of the nodes for tasks with GPUs")
    node_labels: dict[_Label, _Value] = Field({}, description="labels of the nodes for all other tasks")
    gpu_tolerations: tuple[TolerationParams, ...] = Field(
        (TolerationParams(key="nvidia.com/gpu"),), description="taints that tasks with GPUs tolerate", strict=False
    )
    secrets: dict[_Object, dict[_Key, _Variable]] = Field(
        {"mcti-s3": {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}},  # nosec B105
        description="Secret -> {key in it: environment variable}",
    )
    config_maps: dict[_Object, dict[_Key, _Variable]] = Field(
        {"mcti-services": {"s3": "AWS_ENDPOINT_URL_S3", "mlflow": "MLFLOW_TRACKING_URI"}},
        description="ConfigMap -> {key in it: environment variable}",
    )
    other_objects: tuple[_Object, ...] = Field(
        (),
        strict=False,
        description="Secrets and ConfigMaps of the namespace that infra/ and its runbook do not name; "
        "`mcti pipeline check` refuses unknown ones",
    )
    environment: dict[_Variable, str] = Field(
        {
            "AWS_MAX_ATTEMPTS": "12",
            "MCTI_PATIENCE_SECONDS": "90",
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        },
        description="environment variables of every task; the first two outlast a service that is down for half a "
        "minute, the third lets MLflow's server fetch files from S3, which a task may not reach",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="lowest level of the lines in the logs of the tasks (docs/kubeflow.md)"
    )
    claims: dict[_Object, str] = Field({}, description="PersistentVolumeClaim -> mount path in the tasks")
    checkpoints: str | None = Field(
        None,
        description="folder below one of `claims` for the checkpoints of training between attempts; "
        "null: a retry in another pod starts from the beginning",
    )

    @field_validator("cron")
    @classmethod
    def _cron_is_valid(cls, expression: str) -> str:
        """Checked here: the server would refuse it only after the previous schedule was deleted."""
        cron.parse(expression)
        return expression

    @field_validator("claims")
    @classmethod
    def _each_in_a_folder_of_its_own(cls, claims: dict[str, str]) -> dict[str, str]:
        folders = [folder.rstrip("/") for folder in claims.values()]
        for folder in folders:
            if not folder.startswith("/") or folder in ("/tmp", "/dev/shm") or folders.count(folder) > 1:  # noqa: S108
                hint = "name a separate absolute folder; /tmp and /dev/shm are mounted already"
                raise ValueError(f"a claim in {folder or '/'!r}: {hint}")
        return claims

    @model_validator(mode="after")
    def _checkpoints_outlive_the_pod(self) -> Self:
        folders = [folder.rstrip("/") for folder in self.claims.values()]
        if self.checkpoints and not any(f"{self.checkpoints}/".startswith(f"{folder}/") for folder in folders):
            raise ValueError(f"checkpoints {self.checkpoints!r} are in no folder of claims: name a claim's folder")
        return self
