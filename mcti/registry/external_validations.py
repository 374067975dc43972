"""External validations of a version: one run of MLflow each, which a tag of the version names (docs/registry.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.errors import DataError
from mcti.model.names import NOT_RECALIBRATED
from mcti.redaction import as_hash
from mcti.registry import evidence, mlflow_client, models, tracking

FOLDER = "external"
TAG, _MD5 = "mcti.external.", "mcti.external_md5"
_MODEL, _ENDS = "mcti", ("value", "low", "high")


@dataclass(frozen=True)
class ExternalValidation:
    """One validation: cohort, patients, events, and Uno's C with its interval (None: not defined).

    hashes          SHA-256 of the ids of the patients
    ibs_difference  integrated Brier score minus that of the model before its recalibration on the same patients, below
                    0: smaller error; None for a model that was not recalibrated
    """

    cohort: str
    patients: int
    events: int
    uno_c: Mapping[str, float | None]
    hashes: frozenset[str] = frozenset()
    ibs_difference: Mapping[str, float | None] | None = None


def log(report: Path) -> str:
    """Log the folder that `mcti test` wrote as a run of the tested version, and name it in a tag; the run's id.

    The run has the experiment of the version. Another validation on the same cohort gets another run; the tag then
    names the later one.

    Raises
    DataError when the version has other weights than those that were tested.
    OperationalError when the registry does not respond.
    """
    result, metrics = storage.read_json(report / "result.json"), storage.read_json(report / "metrics.json")
    with tracking.service() as client:
        version = models.version_by_number(client, result["model"], int(result["version"]))
        models.require_digest(version, result["digest"])
        experiment = client.get_experiment(client.get_run(models.run_of(version)).info.experiment_id).name
        name = f"test-{version.name}-{version.version}-{result['cohort']}"
        with tracking.run(experiment, name, _tags(version, result, report)) as run_id:
            mlflow_client.load().log_metrics(_numbers(result, metrics[_MODEL]))
            rows = {key: int(result[key]) for key in ("patients", "events")}
            tracking.log_dataset(result["cohort"], result["cohort_md5"], rows, context="external validation")
            tracking.log_files({report: FOLDER})
        client.set_model_version_tag(version.name, version.version, f"{TAG}{result['cohort_md5'][:12]}", run_id)
    return run_id


def read(client: Any, version: Any, scratch: Path) -> list[ExternalValidation]:
    """The validations of the weights of a version, sorted by cohort.

    Raises DataError when the results in a run are not those that were logged, or are of other weights.
    """
    validations = []
    for key, run_id in sorted(version.tags.items()):
        if key.startswith(TAG):
            tags = client.get_run(run_id).data.tags
            # A folder for each run: the files have the same names.
            files = {n: evidence.fetch(run_id, n, _new(scratch / run_id / n), FOLDER) for n in _FILES}
            _check(version, tags, files, run_id)
            validations.append(_validation(files))
    return sorted(validations, key=lambda validation: validation.cohort)


_FILES = ("result.json", "metrics.json", "predictions.csv")


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _check(version: Any, tags: Mapping[str, str], files: Mapping[str, Path], run_id: str) -> None:
    hint = "run `mcti test` on this version again"
    if tags.get(models.DIGEST) != version.tags.get(models.DIGEST):
        raise DataError("the external validation is of other weights", f"run {run_id}", hint)
    if tags.get(_MD5) != _md5(files):
        raise DataError("the results of the external validation were altered", f"run {run_id}", hint)


def _md5(files: Mapping[str, Path]) -> str:
    return storage.text_md5("".join(storage.md5(files[name]) for name in _FILES))


def _tags(version: Any, result: Mapping[str, Any], report: Path) -> dict[str, str]:
    return {
        "mcti.step": "test",
        "mcti.model": version.name,
        "mcti.version": str(version.version),
        "mcti.data.external": result["cohort_md5"],
        models.DIGEST: result["digest"],
        _MD5: _md5({name: report / name for name in _FILES}),
        **({"mcti.notice": result["notice"]} if result["notice"] else {}),
    }


def _numbers(result: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of the model with its interval, and the scalars of the result, as metrics of the run."""
    numbers = {
        f"external.{key}.{end}": interval[end]
        for key, interval in metrics.items()
        if isinstance(interval, Mapping) and set(interval) == set(_ENDS)
        for end in _ENDS
    }
    scalars = ("patients", "events", "development_c_index", "membership_auc", "case_mix_loss")
    numbers |= {f"external.{key}": result[key] for key in scalars}
    return {key: float(number) for key, number in numbers.items() if number is not None}


def _validation(files: Mapping[str, Path]) -> ExternalValidation:
    result, metrics = (storage.read_json(files[name]) for name in ("result.json", "metrics.json"))
    contrast = metrics[_MODEL]["comparison"].get(NOT_RECALIBRATED)
    return ExternalValidation(
        cohort=str(result["cohort"]),
        patients=int(result["patients"]),
        events=int(result["events"]),
        uno_c=metrics[_MODEL]["uno_c"],
        hashes=frozenset(map(as_hash, evidence.read_predictions(files["predictions.csv"])["patient_id"])),
        ibs_difference=None if contrast is None else contrast["ibs_difference"],
    )
