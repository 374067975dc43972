"""Versions of a registered model and their aliases: challenger, champion, previous (docs/registry.md)."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti.errors import DataError, UsageError
from mcti.registry import alias_confirmation, ensemble_index, mlflow_client, tracking
from mcti.registry.rest import ApiError

if TYPE_CHECKING:  # imports torch
    from mcti.registry.ensemble import Ensemble

DIGEST, EVALUATION, RUN = "mcti.digest", "mcti.evaluation_md5", "mcti.run_id"
CONTRACT = "mcti.contract"  # passed | failed | unknown: result of `mcti validate` on the cohort
FOLDER = "artifacts/ensemble"  # of the ensemble, in the files of a version
CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
_ALIAS_HINTS = {
    CHALLENGER: "run `mcti register` first",
    CHAMPION: "run `mcti promote` first",
    PREVIOUS: "no champion was replaced yet",
}
"""What to do where no version has an alias."""
_MODULE_MAPS = ("_MODULES_TO_PACKAGES", "_PACKAGES_TO_MODULES")
"""Variables of MLflow 3.17: None until it has searched the installed packages."""
PROMOTION_WAITS = (0.1, 0.4, 1.0)
"""Seconds before an alias that differs from the ledger is read again: a promotion may be moving it."""


def version_by_digest(client: Any, name: str, digest: str) -> Any | None:
    """The version of `name` with these weights, or None."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((v for v in sorted(versions, key=lambda v: int(v.version)) if v.tags.get(DIGEST) == digest), None)


def log(folder: Path, digest: str, metrics: Mapping[str, float]) -> str:
    """Log the ensemble in `folder` (of `ensemble_files.assemble`) into the active run; its `models:/m-…` address.

    metrics  of the model: they are logged after it, since MLflow reads each metric of the run again for a new model
    """
    mlflow = mlflow_client.load()
    with _saving():
        logged = mlflow.pyfunc.log_model(name="model", **_as_mlflow(folder), metadata={DIGEST: digest})
    mlflow.log_metrics(dict(metrics), model_id=logged.model_id)
    return str(logged.model_uri)


def save(folder: Path, out: Path) -> None:
    """The ensemble in `folder` as an MLflow model folder that needs no registry: for a server without one."""
    import mlflow

    with _saving():
        mlflow.pyfunc.save_model(path=str(out), **_as_mlflow(folder))


@contextmanager
def _saving() -> Iterator[None]:
    """Inside, MLflow writes no bytecode and does not search all installed packages for their modules.

    It imports the Python file of a model from its folder, and would store the compiled file with the version. It checks
    the requirements, which are names of packages; only for names of modules it needs the map, which takes 0.6 s.
    """
    from mlflow.utils import requirements_utils

    bytecode, maps = sys.dont_write_bytecode, {name: getattr(requirements_utils, name) for name in _MODULE_MAPS}
    sys.dont_write_bytecode = True
    vars(requirements_utils).update({name: {} for name in _MODULE_MAPS})
    try:
        yield
    finally:
        sys.dont_write_bytecode = bytecode
        vars(requirements_utils).update(maps)


def _as_mlflow(folder: Path) -> dict[str, Any]:
    from mcti.registry import ensemble_files

    loaded = ensemble_files.load(folder)
    return {
        "python_model": str(Path(__file__).with_name("pyfunc_model.py")),
        "artifacts": {"ensemble": str(folder)},
        "signature": _signature(loaded),
        "input_example": _example(loaded),
        "pip_requirements": requirements(),
    }


def create_version(name: str, address: str, tags: Mapping[str, str]) -> Any:
    """A new version of `name`; it appears complete and with its tags, or not at all."""
    return mlflow_client.load().register_model(address, name, tags=dict(tags))


def version_by_alias(client: Any, name: str, alias: str) -> Any | None:
    """The version that carries the alias in MLflow, or None: for those who move aliases; others use `confirmed`."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except ApiError as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def confirmed(client: Any, name: str, alias: str) -> Any | None:
    """The version that carries the alias, as the ledger confirms it (alias_confirmation.py); None: no version has it.

    A promotion writes its entry of the ledger first and moves the aliases then. A difference is therefore read again
    after each of `PROMOTION_WAITS`.

    Raises DataError when the ledger gives the alias to another version.
    """
    for wait in PROMOTION_WAITS:
        try:
            return _confirmed_once(client, name, alias)
        except DataError:
            time.sleep(wait)
    return _confirmed_once(client, name, alias)


def _confirmed_once(client: Any, name: str, alias: str) -> Any | None:
    version = version_by_alias(client, name, alias)
    # The ledger is read after the alias: both agree at the time of this read.
    alias_confirmation.confirm(client, name, alias, None if version is None else int(version.version))
    return version


def version_by_number(client: Any, name: str, number: int) -> Any:
    """Version `number` of `name`.

    Raises DataError when there is none.
    """
    try:
        return client.get_model_version(name, str(number))
    except ApiError as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(sorted((v.version for v in client.search_model_versions(f"name = '{name}'")), key=int))
        raise DataError(f"no version {number}", f"model {name}", f"known: {known or 'none'}") from None


def candidate(client: Any, name: str, number: int | None) -> Any:
    """Version `number` of `name`; None: the challenger.

    Raises DataError when there is no such version.
    """
    if number is not None:
        return version_by_number(client, name, number)
    challenger = version_by_alias(client, name, CHALLENGER)
    if challenger is None:
        raise DataError("no version has the alias challenger", f"model {name}", _ALIAS_HINTS[CHALLENGER])
    return challenger


_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<number>\d+))")


def parse_address(address: str) -> tuple[str, str, str]:
    """Name, alias and number of models:/NAME@ALIAS (number empty) or models:/NAME/NUMBER (alias empty).

    Raises UsageError for any other address.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        hint = "write models:/NAME@ALIAS or models:/NAME/3"
        raise UsageError(f"{address!r} is not the address of a version", "the address", hint)
    return match["name"], match["alias"] or "", match["number"] or ""


def version_at(client: Any, address: str) -> Any:
    """The version at models:/NAME@ALIAS or models:/NAME/NUMBER.

    Raises
    UsageError for any other address.
    DataError when there is no such version, or the ledger gives the alias to another one.
    """
    return _at(client, address, confirmed)


def unconfirmed_version_at(client: Any, address: str) -> Any:
    """As `version_at`, but the version that carries the alias in MLflow: for `mcti verify`, which reports a difference.

    Raises as `version_at`.
    """
    return _at(client, address, version_by_alias)


def _at(client: Any, address: str, by_alias: Callable[[Any, str, str], Any | None]) -> Any:
    name, alias, number = parse_address(address)
    if alias:
        version = by_alias(client, name, alias)
        if version is None:
            hint = _ALIAS_HINTS.get(alias, f"the aliases of mcti are {', '.join(_ALIAS_HINTS)}")
            raise DataError(f"no version has the alias {alias}", f"model {name}", hint)
        number = version.version  # read again below: a version read by its alias lists no aliases
    return version_by_number(client, name, int(number))


def require_digest(version: Any, digest: str) -> None:
    """Check that a version has the weights that were tested.

    Raises DataError when its digest is another one.
    """
    if version.tags.get(DIGEST) != digest:
        what = "the version has other weights than those that were tested"
        raise DataError(what, _label(version), "test the version again")


def exists(client: Any, name: str, number: int) -> bool:
    """Whether version `number` of `name` exists, that is, was not deleted."""
    try:
        client.get_model_version(name, str(number))
    except ApiError as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def run_of(version: Any) -> str:
    """The run with the evaluation of a version.

    Raises DataError when the version was not made by `mcti register`.
    """
    if not {RUN, DIGEST} <= version.tags.keys():
        hint = "register its folds with `mcti register`"
        raise DataError("the version has no evaluation", _label(version), hint)
    return str(version.tags[RUN])


def fetch(location: str, scratch: Path) -> Path:
    """The folder of an ensemble.

    location  models:/NAME@ALIAS, models:/NAME/NUMBER, runs:/…, an MLflow model folder, or a folder of folds

    Raises
    DataError when there is no model, or its files are not those that were registered.
    OperationalError when the registry does not respond.
    """
    if location.startswith("models:/"):
        with tracking.service() as client:
            version = version_at(client, location)
            known = _digest_of(version)
            # By number: the alias may move during the download.
            ensemble = Path(client.download_version(version.name, version.version, FOLDER, scratch))
        _check_digest(ensemble, known, _label(version))
        return ensemble
    if location.startswith(("runs:/", "mlflow-artifacts:/")):
        with tracking.service():
            folder = mlflow_client.download(location, scratch)
    else:
        folder = Path(location)
        if not folder.is_dir():
            raise DataError("no such folder", location, "use models:/NAME@ALIAS or a folder of trained folds")
    inner = folder / FOLDER
    return inner if inner.is_dir() else folder


def _digest_of(version: Any) -> str:
    """The digest of the weights in the version's tag.

    Raises DataError without the tag: who may write tags could otherwise disable the comparison.
    """
    known = version.tags.get(DIGEST)
    if not known:
        hint = "register its folds with `mcti register`; where it was registered before, see who removed the tag"
        raise DataError(f"the version has no tag {DIGEST}: its weights cannot be verified", _label(version), hint)
    return str(known)


def _check_digest(folder: Path, known: str, where: str) -> None:
    """Compare the index with the version's tag. The tag is in another service: write access to S3 is not sufficient.

    Raises DataError when it differs, or there is no index.
    """
    if not (folder / ensemble_index.INDEX).exists():
        hint = "restore its files from a backup of the bucket, or register the model again"
        raise DataError(f"{ensemble_index.INDEX} is missing: the weights cannot be verified", where, hint)
    actual = ensemble_index.digest_of(ensemble_index.read(folder))
    if actual != known:
        what = f"the weights are not those that were registered: SHA-256 {actual[:12]}…, not {known[:12]}…"
        raise DataError(what, where, "restore its files from a backup of the bucket, or register the model again")


def _label(version: Any) -> str:
    return f"model {version.name}, version {version.version}"


def requirements() -> list[str]:
    """The packages that a server needs to load the model, at their installed versions."""
    return [f"{name}=={installed(name)}" for name in ("mcti", "torch", "safetensors", "pandas", "numpy")]


def _signature(loaded: "Ensemble") -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Map

    from mcti.registry import prediction_columns

    # The values are numbers but are not declared as such: MLflow would convert every row and gene with pandas twice,
    # which costs ten times the forward pass. The served model checks each value itself (pyfunc_model.py).
    columns = [
        ColSpec(DataType.string, "patient_id"),
        ColSpec(Map(AnyType()), "genes", required=False),
        ColSpec(AnyType(), "features", required=False),
    ]
    if loaded.covariates:
        columns.append(ColSpec(Map(AnyType()), "covariates"))
    horizons = [float(months) for months in loaded.horizons_months]
    types = {"text": DataType.string, "number": DataType.double, "count": DataType.long, "flag": DataType.boolean}
    columns_out = prediction_columns.column_types(horizons, competing=loaded.competing)
    outputs = [ColSpec(types[column_type], name) for name, column_type in columns_out.items()]
    parameters = [
        ParamSpec("horizons_months", DataType.double, horizons, shape=(-1,)),
        ParamSpec("risk_groups", DataType.long, 2),
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(outputs), params=ParamSchema(parameters))


def _example(loaded: "Ensemble") -> Any:
    """A synthetic patient: all genes 0, two patches of zeros; no patient's data may be in the registry."""
    import pandas as pd

    genes = dict.fromkeys(loaded.genes, 0.0)
    row = {"patient_id": ["example"], "genes": [genes], "features": [[[0.0] * loaded.features] * 2]}
    clinical = {"covariates": [loaded.example_covariates]} if loaded.covariates else {}
    return pd.DataFrame(row | clinical)
