"""A registered version as the prior of a training: fetched once, checked by its digest, read in each worker."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.errors import DataError
from mcti.model.prior import Prior
from mcti.registry import ensemble_files, models, tracking


@dataclass(frozen=True)
class PriorFiles:
    """A downloaded version, as plain values that are sent to a worker; slides: as in Prior."""

    folder: str
    name: str
    version: str
    slides: bool = True


def version_of_prior(address: str) -> dict[str, str]:
    """Name, version and digest of the version at an address; errors as in `fetch_prior`. No file is downloaded."""
    with tracking.service() as client:
        registered = models.version_at(client, address)
    digest = registered.tags.get(models.DIGEST, "")
    return {"name": str(registered.name), "version": str(registered.version), "digest": str(digest)}


def fetch_prior(address: str, scratch: Path) -> PriorFiles:
    """Download the version at models:/NAME@ALIAS or models:/NAME/VERSION into `scratch`.

    Raises
    UsageError for any other address.
    DataError when there is no such version, or its files are not those that were registered.
    OperationalError when the registry does not respond.
    """
    with tracking.service() as client:
        registered = models.version_at(client, address)
    name, version = str(registered.name), str(registered.version)
    # By number: the alias may move during the download.
    return PriorFiles(str(models.fetch(f"models:/{name}/{version}", scratch)), name, version)


def read_prior(files: PriorFiles) -> Prior:
    """The models and reference profiles of a downloaded version.

    Raises DataError when a file is missing or altered, or a member has no reference profile.
    """
    folder = Path(files.folder)
    ensemble = ensemble_files.load(folder)
    names = ensemble.default_members or tuple(ensemble.members)
    where = f"model {files.name}, version {files.version}"
    absent = [name for name in names if name not in ensemble.reference_profiles]
    if absent:
        what = f"the prior has no reference profile of its training patients ({absent[0]})"
        raise DataError(what, where, "train and register it again, or name another version in train.prior")
    specs = [storage.read_json(folder / name / "model.json") for name in ensemble.members]
    return Prior(
        name=files.name,
        version=files.version,
        digest=ensemble.digest,
        members={name: ensemble.members[name] for name in names},
        profiles={name: ensemble.reference_profiles[name] for name in names},
        patients=frozenset(ensemble.assigned).union(*map(ensemble_files.seen_patients, specs)),
        cohort=_cohort(specs[0]),
        features=ensemble.feature_attributes,
        slides=files.slides,
    )


def _cohort(spec: dict[str, Any]) -> dict[str, Any]:
    """Name, endpoint and expression scale of the development cohort, where they are recorded."""
    record = spec.get("cohort", {})
    return {name: record[name] for name in ("name", "endpoint", "expression_scale") if name in record}
