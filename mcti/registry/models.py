"""Versions of a registered model and their aliases: challenger, champion, previous (docs/registry.md)."""

import re
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.errors import DataError, UsageError
from mcti.registry import ensemble, mlflow_client, tracking

DIGEST, EVALUATION, RUN = "mcti.digest", "mcti.evaluation_md5", "mcti.run_id"
CONTRACT = "mcti.contract"  # passed | failed | unknown: what `mcti validate` said of the cohort
CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"


def find(client: Any, name: str, digest: str) -> Any | None:
    """The version of `name` with these weights, or None."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((v for v in sorted(versions, key=lambda v: int(v.version)) if v.tags.get(DIGEST) == digest), None)


def log(folder: Path, digest: str) -> str:
    """Log the ensemble in `folder` (of `ensemble.assemble`) into the active run; its `models:/m-…` address."""
    import mlflow

    logged = mlflow.pyfunc.log_model(name="model", **_as_mlflow(folder), metadata={DIGEST: digest})
    return str(logged.model_uri)


def save(folder: Path, out: Path) -> None:
    """The ensemble in `folder` as an MLflow model folder that needs no registry: for a server that has none."""
    import mlflow

    mlflow.pyfunc.save_model(path=str(out), **_as_mlflow(folder))


def _as_mlflow(folder: Path) -> dict[str, Any]:
    loaded = ensemble.load(folder)
    return {
        "python_model": str(Path(__file__).with_name("pyfunc_model.py")),
        "artifacts": {"ensemble": str(folder)},
        "signature": _signature(loaded),
        "input_example": _example(loaded),
        "pip_requirements": requirements(),
    }


def create_version(name: str, address: str, tags: Mapping[str, str]) -> Any:
    """One more version of `name`; it appears whole and tagged, or not at all."""
    import mlflow

    return mlflow.register_model(address, name, tags=dict(tags))


def version_by_alias(client: Any, name: str, alias: str) -> Any | None:
    """The version that carries the alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def version_by_number(client: Any, name: str, number: int) -> Any:
    """Version `number` of `name`.

    Raises
        DataError: there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(sorted((v.version for v in client.search_model_versions(f"name = '{name}'")), key=int))
        raise DataError(f"no version {number}", f"model {name}", f"known: {known or 'none'}") from None


_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<number>\d+))")


def parts(address: str) -> tuple[str, str, str]:
    """Name, alias and number of models:/NAME@ALIAS (no number) or models:/NAME/NUMBER (no alias).

    Raises UsageError when it is no such address.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(f"{address!r} names no version", "the address", "write models:/NAME@ALIAS or models:/NAME/3")
    return found["name"], found["alias"] or "", found["number"] or ""


def named(client: Any, address: str) -> Any:
    """The version that an address names, models:/NAME@ALIAS or models:/NAME/NUMBER.

    Raises
        UsageError: it is no such address.
        DataError: there is no such version.
    """
    name, alias, number = parts(address)
    if alias:
        version = version_by_alias(client, name, alias)
        if version is None:
            raise DataError(f"no version carries the alias {alias}", f"model {name}", "run `mcti promote` first")
        number = version.version  # asked for again: a version by its alias does not say which aliases it has
    return version_by_number(client, name, int(number))


def exists(client: Any, name: str, number: int) -> bool:
    """Whether version `number` of `name` is there (one deleted by hand is not)."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def run_of(version: Any) -> str:
    """The run that holds the evidence of a version.

    Raises
        DataError: the version was not made by `mcti register`, so there is none.
    """
    if not {RUN, DIGEST} <= version.tags.keys():
        hint = "register its folds with `mcti register`; what was made by other hands has no evidence to judge"
        raise DataError("the version carries no evidence", f"model {version.name}, version {version.version}", hint)
    return str(version.tags[RUN])


def fetch(location: str, scratch: Path) -> Path:
    """The folder of an ensemble: of an address `models:/NAME@ALIAS`, of an MLflow model folder, or the folder itself.

    Raises
        DataError: there is no model, or its files are not those that were registered.
        OperationalError: the registry does not answer.
    """
    if location.startswith("models:/"):
        with tracking.service() as client:
            version = named(client, location)
            # By number: the alias may move while the files come.
            folder = _downloaded(f"models:/{version.name}/{version.version}", scratch)
        _check_digest(folder, version)
    elif location.startswith(("runs:/", "mlflow-artifacts:/")):
        with tracking.service():
            folder = _downloaded(location, scratch)
    else:
        folder = Path(location)
        if not folder.is_dir():
            raise DataError("no such folder", location, "name models:/NAME@ALIAS or a folder of trained folds")
    return _inner(folder)


def _downloaded(location: str, scratch: Path) -> Path:
    return mlflow_client.download(location, scratch)


def _inner(folder: Path) -> Path:
    inner = folder / "artifacts" / "ensemble"
    return inner if inner.is_dir() else folder


def _check_digest(folder: Path, version: Any) -> None:
    """The index against the version's tag, which lies in another service: one who may write S3 alone fools nobody."""
    known, index = version.tags.get(DIGEST), _inner(folder) / ensemble.INDEX
    if known is None or not index.exists():
        return  # made by other hands
    found = ensemble.digest_of(storage.read_json(index))
    if found != known:
        what = f"the weights are not those that were registered: SHA-256 {found[:12]}…, not {known[:12]}…"
        where = f"model {version.name}, version {version.version}"
        raise DataError(what, where, "restore its files from a backup of the bucket, or register the model anew")


def requirements() -> list[str]:
    """What a server needs to load the model, at the versions in use here."""
    return [f"{name}=={installed(name)}" for name in ("mcti", "torch", "safetensors", "pandas", "numpy")]


def _signature(loaded: ensemble.Ensemble) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Map

    # Numbers, but not declared so: MLflow would take every row and every gene through pandas and back, twice, which
    # costs ten times the forward pass. The served model looks at each value itself (mcti/registry/pyfunc_model.py).
    columns = [
        ColSpec(DataType.string, "patient_id"),
        ColSpec(Map(AnyType()), "genes", required=False),
        ColSpec(AnyType(), "features", required=False),
    ]
    if loaded.covariates:
        columns.append(ColSpec(Map(AnyType()), "covariates"))
    horizons = [float(months) for months in loaded.horizons_months]
    kinds = {"text": DataType.string, "number": DataType.double, "count": DataType.long, "flag": DataType.boolean}
    outputs = [ColSpec(kinds[kind], name) for name, kind in ensemble.outputs(horizons).items()]
    wanted = [
        ParamSpec("horizons_months", DataType.double, horizons, shape=(-1,)),
        ParamSpec("risk_groups", DataType.long, 2),
    ]
    parameters = ParamSchema(wanted)
    return ModelSignature(inputs=Schema(columns), outputs=Schema(outputs), params=parameters)


def _example(loaded: ensemble.Ensemble) -> Any:
    """A made-up patient: all genes at 0, two patches of zeros; no real one may stand in a registry."""
    import pandas as pd

    genes = dict.fromkeys(loaded.genes, 0.0)
    row = {"patient_id": ["example"], "genes": [genes], "features": [[[0.0] * loaded.features] * 2]}
    clinical = {"covariates": [dict.fromkeys(loaded.covariates, 0.0)]} if loaded.covariates else {}
    return pd.DataFrame(row | clinical)
