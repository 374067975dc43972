"""A recalibrated copy of an ensemble: the same weights with recalibrated survival curves, and how they were fitted.

The risks, and so the ranking and the risk groups, are those of the parent.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.registry import ensemble_files, ensemble_index
from mcti.registry.ensemble_index import INDEX, digest_of

if TYPE_CHECKING:  # it imports torch, which the gates do not need
    from mcti.model.trained import Recalibration

_KEY = "recalibration"


@dataclass(frozen=True)
class RecalibrationRecord:
    """How the curves of an ensemble were recalibrated after its training.

    parent    digest of the ensemble before;  cohort, cohort_md5  whose patients the fit used
    patients  SHA-256 of the ids of these patients, and of those of earlier recalibrations;  events  of this fit
    intercept, slope  of the log cumulative hazard of the mean curve; no unit, 0 and 1 change nothing
    """

    parent: str
    cohort: str
    cohort_md5: str
    patients: tuple[str, ...]
    events: int
    intercept: float
    slope: float


def write(folder: Path, recalibrations: Mapping[str, "Recalibration"], record: RecalibrationRecord, out: Path) -> str:
    """Write the ensemble in `folder` with these recalibrations into the new folder `out`; its digest.

    recalibrations  {member: recalibration}, which replaces that of the training (train.recalibration_folds)
    """
    index, _ = ensemble_files.verified_index(folder)
    for name in index["members"]:
        spec = storage.read_json(folder / name / "model.json")
        fitted = spec["fitted"] | ({_KEY: asdict(recalibrations[name])} if name in recalibrations else {})
        (out / name).mkdir(parents=True)
        (out / name / "weights.safetensors").write_bytes((folder / name / "weights.safetensors").read_bytes())
        storage.write_json(out / name / "model.json", spec | {"fitted": fitted})
    members = {name: ensemble_files.file_hashes(out / name) for name in index["members"]}
    index = {**index, "members": members, _KEY: asdict(record)}
    storage.write_json(out / INDEX, index)
    return digest_of(index)


def read(folder: Path) -> RecalibrationRecord | None:
    """The record of the ensemble in `folder`; None where it was not recalibrated after its training."""
    record: dict[str, Any] | None = ensemble_index.read(folder).get(_KEY) if (folder / INDEX).exists() else None
    return None if record is None else RecalibrationRecord(**record | {"patients": tuple(record["patients"])})


def recalibrated_on(folder: Path) -> frozenset[str]:
    """SHA-256 of the ids of the patients on whom the ensemble in `folder` was recalibrated."""
    record = read(folder)
    return frozenset() if record is None else frozenset(record.patients)
