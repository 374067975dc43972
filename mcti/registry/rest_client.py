"""A client of MLflow's REST API with the methods, arguments and results of `mlflow.MlflowClient` that mcti uses.

A method that is not here is one of MLflow's own client, which is imported when the method is first used.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mcti.registry import mlflow_client
from mcti.registry.rest import ApiError, Server
from mcti.registry.rest_artifacts import Artifacts

_RUNS, _VERSIONS = 1000, 10_000  # results of one search, as MLflow's client limits them


@dataclass(frozen=True)
class Version:
    """A version of a registered model; creation_timestamp: milliseconds since 1970."""

    name: str
    version: str
    tags: Mapping[str, str]
    aliases: Sequence[str]
    creation_timestamp: int
    run_id: str
    source: str
    status: str
    description: str


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model; aliases: alias -> number of the version."""

    name: str
    tags: Mapping[str, str]
    aliases: Mapping[str, str]


@dataclass(frozen=True)
class Experiment:
    """An experiment."""

    experiment_id: str
    name: str
    artifact_location: str


@dataclass(frozen=True)
class RunInfo:
    """Start and end in milliseconds since 1970; status such as RUNNING."""

    run_id: str
    experiment_id: str
    status: str
    run_name: str
    start_time: int
    end_time: int | None
    artifact_uri: str


@dataclass(frozen=True)
class RunData:
    """Tags, parameters, and the last value of each metric."""

    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run."""

    info: RunInfo
    data: RunData


class RestClient:
    """MLflow's client for the server at `uri`. Every method raises ApiError when the server refuses the call."""

    def __init__(self, uri: str) -> None:
        self.server = Server(uri)
        self.artifacts = Artifacts(self.server)
        self._roots: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._full, name)

    @cached_property
    def _full(self) -> Any:
        return mlflow_client.FullClient(self.server.uri)

    # The registry.

    def get_registered_model(self, name: str) -> RegisteredModel:
        """The registered model `name`."""
        model = self._get("registered-models/get", name=name)["registered_model"]
        aliases = {item["alias"]: str(item["version"]) for item in model.get("aliases", ())}
        return RegisteredModel(str(model["name"]), _pairs(model.get("tags", ())), aliases)

    def set_registered_model_tag(self, name: str, key: str, value: Any) -> None:
        """Set a tag of a registered model."""
        self._set("registered-models/set-tag", name=name, key=key, value=str(value))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Set an alias to a version."""
        self._set("registered-models/alias", name=name, alias=alias, version=str(version))

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Delete an alias."""
        self.server.call("DELETE", "registered-models/alias", {"name": name, "alias": alias})

    def get_model_version(self, name: str, version: str) -> Version:
        """A version by its number."""
        return _version(self._get("model-versions/get", name=name, version=str(version))["model_version"])

    def get_model_version_by_alias(self, name: str, alias: str) -> Version:
        """The version that carries an alias."""
        return _version(self._get("registered-models/alias", name=name, alias=alias)["model_version"])

    def search_model_versions(self, filter_string: str) -> list[Version]:
        """All versions that match a filter; "" matches all of all models."""
        versions: list[Version] = []
        page: str | None = None
        while page != "":
            response = self._get("model-versions/search", filter=filter_string, max_results=_VERSIONS, page_token=page)
            versions += [_version(item) for item in response.get("model_versions", ())]
            page = response.get("next_page_token", "")
        return versions

    def set_model_version_tag(self, name: str, version: str, key: str, value: Any) -> None:
        """Set a tag of a version."""
        self._set("model-versions/set-tag", name=name, version=str(version), key=key, value=str(value))

    def update_model_version(self, name: str, version: str, description: str) -> Version:
        """Set the description of a version."""
        body = {"name": name, "version": str(version), "description": description}
        return _version(self.server.call("PATCH", "model-versions/update", body)["model_version"])

    def download_version(self, name: str, version: str, folder: str, out: Path) -> Path:
        """The folder `folder` of a version, copied into `out`; one that does not exist is empty."""
        response = self._get("model-versions/get-download-uri", name=name, version=str(version))
        root = str(response["artifact_uri"])
        if not self.artifacts.serves(root):
            return Path(self._full.download_version(name, version, folder, out))
        return self.artifacts.download_folder(root, folder, out)

    # Experiments and runs.

    def get_experiment(self, experiment_id: str) -> Experiment:
        """An experiment by its id."""
        return _experiment(self._get("experiments/get", experiment_id=str(experiment_id))["experiment"])

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """An experiment by its name; None: there is none."""
        try:
            return _experiment(self._get("experiments/get-by-name", experiment_name=name)["experiment"])
        except ApiError as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def create_experiment(self, name: str) -> str:
        """Create an experiment; its id."""
        return str(self._post("experiments/create", name=name)["experiment_id"])

    def search_experiments(self) -> list[Experiment]:
        """All experiments that were not deleted."""
        response = self._post("experiments/search", view_type="ACTIVE_ONLY", max_results=_RUNS)
        return [_experiment(item) for item in response.get("experiments", ())]

    def get_run(self, run_id: str) -> Run:
        """A run."""
        return _run(self._get("runs/get", run_id=run_id)["run"])

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        *,
        max_results: int = _RUNS,
        order_by: Sequence[str] | None = None,
    ) -> list[Run]:
        """The runs that match a filter and were not deleted."""
        response = self._post(
            "runs/search",
            experiment_ids=[str(number) for number in experiment_ids],
            filter=filter_string,
            run_view_type="ACTIVE_ONLY",
            max_results=max_results,
            order_by=None if order_by is None else list(order_by),
        )
        return [_run(item) for item in response.get("runs", ())]

    def create_run(
        self,
        experiment_id: str,
        *,
        start_time: int | None = None,
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> Run:
        """Create a run, which is RUNNING; start_time: milliseconds since 1970, by default now."""
        created = self._post(
            "runs/create",
            experiment_id=str(experiment_id),
            user_id=(tags or {}).get("mlflow.user", "unknown"),
            start_time=_now() if start_time is None else start_time,
            tags=_items({} if tags is None else tags),
            run_name=run_name,
        )
        return _run(created["run"])

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """Change the status or the name of a run."""
        info = self.get_run(run_id).info
        self._post("runs/update", run_id=run_id, status=status or info.status, end_time=info.end_time, run_name=name)

    def set_terminated(self, run_id: str, status: str = "FINISHED") -> None:
        """End a run now."""
        self._post("runs/update", run_id=run_id, status=status, end_time=_now())

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._post("runs/delete", run_id=run_id)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag of a run."""
        self._post("runs/delete-tag", run_id=run_id, key=key)

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        """Log a parameter."""
        self._post("runs/log-parameter", run_id=run_id, key=key, value=str(value))

    def log_metric(self, run_id: str, key: str, value: float, *, step: int = 0) -> None:
        """Log the value of a metric, now.

        value  in the unit that the name states
        """
        self._post("runs/log-metric", run_id=run_id, **_metric(key, value, _now(), step))

    def log_values(
        self,
        run_id: str,
        *,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Log several values in one request.

        metrics  (name, value, unit of the name; milliseconds since 1970; step)
        """
        self._set(
            "runs/log-batch",
            run_id=run_id,
            metrics=[_metric(*metric) for metric in metrics],
            params=_items(params or {}),
            tags=_items(tags or {}),
        )

    # Files of a run.

    def list_artifacts(self, run_id: str, path: str) -> Any:
        """The files and folders of a run directly below `path`; none where it is a file, or does not exist."""
        root = self._root(run_id)
        return (
            self.artifacts.listed(root, path)
            if self.artifacts.serves(root)
            else self._full.list_artifacts(run_id, path)
        )

    def download_file(self, run_id: str, path: str, out: Path) -> Path:
        """A file or folder of a run, copied into the folder `out`."""
        root = self._root(run_id)
        if not self.artifacts.serves(root):
            return Path(self._full.download_file(run_id, path, out))
        return self.artifacts.download(root, path, out)

    def log_files(self, run_id: str, paths: Mapping[Path, str]) -> None:
        """Write files and folders as files of a run: {path: its folder there, that of the contents of a folder}."""
        root = self._root(run_id)
        if not self.artifacts.serves(root):
            self._full.log_files(run_id, paths)
            return
        files: dict[str, Path] = {}
        for path, folder in paths.items():
            contents = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            base = path if path.is_dir() else path.parent
            files |= {f"{folder}/{file.relative_to(base).as_posix()}": file for file in contents}
        self.artifacts.upload_files(root, files)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Write a text as a file of a run."""
        root = self._root(run_id)
        if self.artifacts.serves(root):
            self.artifacts.upload(root, path, text.encode())
        else:
            self._full.log_text(run_id, text, path)

    def log_dict(self, run_id: str, tree: Mapping[str, Any], path: str) -> None:
        """Write a tree as a JSON file of a run."""
        self.log_text(run_id, json.dumps(tree, indent=2, default=str), path)

    def _root(self, run_id: str) -> str:
        """The address of the files of a run, which does not change: it is requested once."""
        if run_id not in self._roots:
            self._roots[run_id] = self.get_run(run_id).info.artifact_uri
        return self._roots[run_id]

    def _get(self, endpoint: str, **body: Any) -> dict[str, Any]:
        return self.server.call("GET", endpoint, body)

    def _post(self, endpoint: str, **body: Any) -> dict[str, Any]:
        return self.server.call("POST", endpoint, body)

    def _set(self, endpoint: str, **body: Any) -> None:
        """Set a value by a request that can be repeated.

        Of two concurrent requests that insert the same tag, alias or parameter MLflow refuses one with an error of its
        database. The repeated request finds the row and updates it.
        """
        try:
            self._post(endpoint, **body)
        except ApiError as error:
            if error.error_code != "BAD_REQUEST":
                raise
            self._post(endpoint, **body)


def _now() -> int:
    return int(time.time() * 1000)


def _items(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value": str(value)} for key, value in values.items()]


def _pairs(items: Any) -> dict[str, str]:
    return {item["key"]: item.get("value", "") for item in items}


def _metric(key: str, value: float, timestamp: int, step: int) -> dict[str, Any]:
    """A number that is not finite is a text in JSON, as protobuf writes it."""
    number: float | str = float(value)
    if not math.isfinite(value):
        number = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": key, "value": number, "timestamp": timestamp, "step": step}


def _version(item: Mapping[str, Any]) -> Version:
    return Version(
        name=str(item["name"]),
        version=str(item["version"]),
        tags=_pairs(item.get("tags", ())),
        aliases=tuple(item.get("aliases", ())),
        creation_timestamp=int(item.get("creation_timestamp", 0)),
        run_id=item.get("run_id", ""),
        source=item.get("source", ""),
        status=item.get("status", ""),
        description=item.get("description", ""),
    )


def _experiment(item: Mapping[str, Any]) -> Experiment:
    return Experiment(str(item["experiment_id"]), str(item["name"]), item.get("artifact_location", ""))


def _run(item: Mapping[str, Any]) -> Run:
    info, data = item["info"], item.get("data", {})
    ended = info.get("end_time")
    return Run(
        RunInfo(
            run_id=info["run_id"],
            experiment_id=str(info["experiment_id"]),
            status=info["status"],
            run_name=info.get("run_name", ""),
            start_time=int(info["start_time"]),
            end_time=None if ended is None else int(ended),
            artifact_uri=info.get("artifact_uri", ""),
        ),
        RunData(
            tags=_pairs(data.get("tags", ())),
            params=_pairs(data.get("params", ())),
            metrics={metric["key"]: float(metric["value"]) for metric in data.get("metrics", ())},
        ),
    )
