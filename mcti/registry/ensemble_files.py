"""The folder of an ensemble: writing, reading and checking it. Weights are safetensors, the rest is JSON; no pickle."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.errors import DataError
from mcti.model import compatibility
from mcti.redaction import as_hash, hashed
from mcti.registry import ensemble_index
from mcti.registry.ensemble_index import INDEX, digest_of

if TYPE_CHECKING:  # they import torch, which comparing hashes does not need
    from mcti.model.reference_profile import ReferenceProfile
    from mcti.model.trained import TrainedModel
    from mcti.registry.ensemble import Ensemble

REFIT = "refit"
_FILES = ("weights.safetensors", "model.json")


def assemble(models: Path, out: Path, *, refit: bool = False) -> str:
    """Copy the folds below `models` (fold_*/…) into the new folder `out` with an index; the digest of the contents.

    refit  also copy models/refit, which then predicts new patients

    Raises
    DataError when there is no fold, when a fold lacks a file, when two folds differ in settings or code, or when both
    test the same patient within one repeat.
    DataError when the refit is missing, or differs from the folds in settings, code or patients.
    """
    folders = member_folders(models, refit=refit)
    folds = [folder for folder in folders if folder.name != REFIT]
    _check_compatible(folds)
    index: dict[str, Any] = {"members": {folder.name: file_hashes(folder) for folder in folders}}
    index["assigned"] = _assigned(folds)
    if refit:
        index["default_members"] = [REFIT]
    out.mkdir(parents=True)
    for folder in folders:
        (out / folder.name).mkdir()
        for name in _FILES:
            (out / folder.name / name).write_bytes((folder / name).read_bytes())
    (out / INDEX).write_text(storage.to_json(index), encoding="utf-8")
    return digest_of(index)


def member_folders(models: Path, *, refit: bool = False) -> list[Path]:
    """The folders of the folds below `models`, and with `refit` the one of the refit.

    Raises DataError when there is no fold, or when the refit is missing or differs from the folds in settings, code or
    patients.
    """
    folds = fold_folders(models)
    return [*folds, _refit_folder(models, folds)] if refit else folds


def load(folder: Path) -> "Ensemble":
    """The ensemble in `folder`: what `assemble` wrote, or the folds as `mcti train` wrote them.

    Raises DataError when a file is missing, altered, not a safetensors file, or contains a NaN or infinite weight.
    """
    from mcti.registry.ensemble import Ensemble

    index, folders = verified_index(folder)
    specs = [storage.read_json(path / "model.json") for path in folders]
    return Ensemble(
        members={path.name: _read_member(path, spec) for path, spec in zip(folders, specs, strict=True)},
        assigned={patient: tuple(names) for patient, names in index["assigned"].items()},
        horizons_months=tuple(float(months) for months in specs[0]["horizons_months"]),
        digest=digest_of(index),
        reference_profiles=_profiles(folders, specs),
        default_members=tuple(index.get("default_members", ())),
        feature_attributes=specs[0].get("features", {}),
        in_sources=frozenset().union(*map(source_patients, specs)),
    )


def verified_index(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """The index of the ensemble in `folder`, and the folders of its members; every file is compared with its SHA-256.

    Folds as `mcti train` wrote them have no index: it is computed from their files.

    Raises DataError when a file is missing or altered.
    """
    if (folder / INDEX).exists():
        index = ensemble_index.read(folder)
        folders = [folder / name for name in sorted(index["members"], key=_fold_number)]
        for path in folders:
            _check_unaltered(path, index["members"][path.name])
    else:
        folders = fold_folders(folder)
        index = {"members": {path.name: file_hashes(path) for path in folders}, "assigned": _assigned(folders)}
        _check_compatible(folders)
    return index, folders


def trained_on(folder: Path) -> dict[str, frozenset[str]]:
    """SHA-256 of the ids of the training patients of each member, those of sources and prior included.

    folder  contains fold_*/model.json

    Raises DataError when a model.json does not list its patients.
    """
    patients = {}
    for path in fold_folders(folder):
        spec = storage.read_json(path / "model.json")
        if "patients" not in spec:
            raise DataError("the training patients are not listed", str(path / "model.json"), "train this fold again")
        patients[path.name] = seen_patients(spec)
    return patients


def endpoint(folder: Path) -> str | None:
    """The end point for which the folds were trained, where model.json records it.

    folder  contains fold_*/model.json
    """
    for path in fold_folders(folder):
        record: Mapping[str, Any] = storage.read_json(path / "model.json").get("cohort", {})
        if "endpoint" in record:
            return str(record["endpoint"])
    return None


def has_late_entries(folder: Path) -> bool:
    """Whether patients of the training came under observation after the origin (left truncation).

    folder  contains fold_*/model.json
    """
    records = (storage.read_json(path / "model.json").get("cohort", {}) for path in fold_folders(folder))
    return any(record.get("late_entries") for record in records)


def seen_patients(spec: Mapping[str, Any]) -> frozenset[str]:
    """SHA-256 of the id of each patient that a member learned from: training part, sources and prior; of model.json."""
    return _hashes(spec) | source_patients(spec)


def source_patients(spec: Mapping[str, Any]) -> frozenset[str]:
    """SHA-256 of the id of each patient of the sources and the prior of a member; of model.json."""
    records = [*spec.get("sources", ()), spec.get("prior") or {}]
    return frozenset().union(*map(_hashes, records))


def _hashes(record: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(as_hash(str(patient)) for patient in record.get("patients", ()))


def fold_folders(models: Path) -> list[Path]:
    """The folders fold_0, fold_1, … below `models`, in the order of their numbers.

    Raises DataError when there is none.
    """
    folders = [path for path in models.glob("fold_*") if path.is_dir() and path.name.removeprefix("fold_").isdecimal()]
    if not folders:
        raise DataError("no trained fold (fold_0, fold_1, …)", str(models), "run `mcti train` first")
    return sorted(folders, key=lambda path: _fold_number(path.name))


def _check_compatible(folders: Sequence[Path]) -> None:
    files = [path / "model.json" for path in folders]
    compatibility.check_folds({str(file): storage.read_json(file) for file in files if file.exists()})


def _refit_folder(models: Path, folds: Sequence[Path]) -> Path:
    """The folder of the refit, which must have the settings, the code and all patients of the folds."""
    folder = models / REFIT
    if not (folder / "model.json").exists():
        raise DataError("no refit", str(folder), "run `mcti train --refit`, or set register.predictor to cv_ensemble")
    refit, fold = (storage.read_json(path / "model.json") for path in (folder, folds[0]))
    one, other = (spec.get("digests", {}) for spec in (refit, fold))
    all_patients = {patient for path in folds for patient in storage.read_json(path / "model.json")["patients"]}
    differences = {
        "settings": compatibility.shared_settings(refit) != compatibility.shared_settings(fold),
        "code": one.get("code") != other.get("code"),
        "sources": one.get("sources") != other.get("sources"),
        "prior": one.get("prior") != other.get("prior"),
        "patients": set(refit["patients"]) != all_patients,
    }
    if any(differences.values()):
        names = ", ".join(name for name, differs in differences.items() if differs)
        raise DataError(f"the refit has other {names} than the folds", str(folder), "run `mcti train --refit` again")
    return folder


def _fold_number(name: str) -> int:
    if name == REFIT:
        return -1
    number = name.removeprefix("fold_")
    if number == name or not number.isdecimal():  # a name such as `../x` must not lead out of the folder
        raise DataError(f"member {name!r} is not a fold", INDEX, "register the models again")
    return int(number)


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a member.

    Raises DataError when one is missing.
    """
    for name in _FILES:
        if not (folder / name).exists():
            raise DataError(f"{name} is missing", str(folder), "run `mcti train` again: it resumes with this fold")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _FILES}


def _check_unaltered(folder: Path, expected: Mapping[str, str]) -> None:
    for name, actual in file_hashes(folder).items():
        if actual != expected.get(name):
            raise DataError(
                f"SHA-256 {actual[:12]}… is not the registered {expected.get(name, 'none')[:12]}…",
                str(folder / name),
                "the file was altered: download the model from the registry again",
            )


def _profiles(folders: Sequence[Path], specs: Sequence[Mapping[str, Any]]) -> "dict[str, ReferenceProfile]":
    from mcti.model.reference_profile import ReferenceProfile

    return {
        folder.name: ReferenceProfile.from_spec(spec["reference"], str(folder / "model.json"))
        for folder, spec in zip(folders, specs, strict=True)
        if "reference" in spec
    }


def _assigned(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The folds that tested each patient, by the hash of the id."""
    import pandas as pd

    assigned: dict[str, list[str]] = {}
    for folder in folders:
        path = folder / "predictions.csv"
        if not path.exists():
            raise DataError("predictions.csv is missing", str(folder), "run `mcti train` again")
        for patient in pd.read_csv(path, usecols=["patient_id"], dtype=str, keep_default_na=False)["patient_id"]:
            assigned.setdefault(hashed(patient), []).append(folder.name)
    return dict(sorted(assigned.items()))


def _read_member(folder: Path, spec: Mapping[str, Any]) -> "TrainedModel":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from mcti.model.trained import TrainedModel

    path = folder / "weights.safetensors"
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"not a safetensors file ({error})", str(path), "use the file that `mcti train` wrote"
        ) from error
    invalid = [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if invalid:
        raise DataError(f"tensor {invalid[0]!r} contains a NaN or an infinity", str(path), "train this fold again")
    return TrainedModel.from_state(tensors, spec, str(folder / "model.json"))
