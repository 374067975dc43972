"""The folder of a trained fold: predictions of its test patients, weights, settings; written whole, read again."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from mcti import storage
from mcti.dataset.bags import PatientBag
from mcti.errors import DataError, MctiError
from mcti.model.reference_profile import ReferenceProfile
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.redaction import hashed
from mcti.training.loop import Outcome

_CURVES = ("loss", "survival", "subtype", "instance", "learning_rate")
"""Columns of history.csv after the epoch."""
SEEN = 200
"""So many training patients are predicted once more, for the scale of the risks (model/sketch.py)."""


@dataclass(frozen=True)
class FoldSummary:
    """The few numbers of a trained fold."""

    fold: int
    train_patients: int
    test_patients: int
    parameters: int
    loss: float


def predict(
    model: TrainedModel, tested: Sequence[PatientBag], horizons: Sequence[float], *, subtypes: bool = False
) -> list[dict[str, float]]:
    """Risk and S(t) of each patient, one at a time (model/trained.py); DataError names the patient."""
    rows = []
    for bag in tested:
        try:
            rows.append(model.predict(bag.patches, bag.genes, horizons, bag.covariates, subtypes=subtypes))
        except MctiError as error:
            raise error.with_patient(bag.patient_id) from error
    return rows


def predict_regimes(
    model: TrainedModel, tested: Sequence[PatientBag], horizons: Sequence[float]
) -> list[dict[str, Any]]:
    """Each patient who has both modalities once more by slides only and by genes only: rows with patient_id, regime.

    Empty for a model that knows no stand-in for an absent modality.
    """
    if not model.config.missing or len(model.config.modalities) < 2:
        return []
    rows: list[dict[str, Any]] = []
    for bag in tested:
        if bag.patches is not None and bag.genes is not None:
            alone = {"slides_only": (bag.patches, None), "genes_only": (None, bag.genes)}
            for regime, (patches, genes) in alone.items():
                found = model.predict(patches, genes, horizons, bag.covariates)
                rows.append({"patient_id": bag.patient_id, "regime": regime, **found})
    return rows


def predict_uncalibrated(
    model: TrainedModel, tested: Sequence[PatientBag], horizons: Sequence[float]
) -> list[dict[str, Any]]:
    """What each patient's prediction would be without the recalibration; empty for a model without one."""
    if model.fitted.recalibration is None:
        return []
    plain = TrainedModel(model.net, model.config, dataclasses.replace(model.fitted, recalibration=None))
    rows = predict(plain, tested, horizons)
    return [{"patient_id": bag.patient_id, **row} for bag, row in zip(tested, rows, strict=True)]


def write(
    folder: Path,
    outcome: Outcome,
    chosen: Sequence[PatientBag],
    tested: Sequence[PatientBag],
    params: TrainParams,
    fold: int,
    identity: Mapping[str, Any],
    told: Mapping[str, Any],
) -> None:
    """The folder of a fold, whole or not at all; the same outcome gives the same bytes.

    told  what model.json says of the data beside identity and model: features (how they were made), cohort
    """
    rows = predict(outcome.model, tested, params.horizons_months, subtypes=True)
    lines = [{"patient_id": bag.patient_id, "fold": fold, **row} for bag, row in zip(tested, rows, strict=True)]
    tensors = {name: value.detach().cpu().contiguous() for name, value in outcome.model.net.state_dict().items()}
    record = {
        **outcome.model.spec(),
        **identity,
        "patients": sorted(hashed(bag.patient_id) for bag in chosen),
        "horizons_months": _plain(params),
        **told,
    }
    genes, events, risks = outcome.model.config.genes, sum(bag.event for bag in chosen), [row["risk"] for row in rows]
    some = sorted(chosen, key=lambda bag: hashed(bag.patient_id))[:SEEN]
    seen = [row["risk"] for row in predict(outcome.model, some, params.horizons_months)]
    record["reference"] = ReferenceProfile.fit(
        chosen, genes, events, outcome.model.fitted, risks, seen, outcome.model.config.covariates
    ).spec()
    record["trained_bag_cap"] = outcome.bag_cap  # below train.bag_cap where a GPU was too small for it
    # Named one by one: a history that came through a checkpoint has its keys in another order.
    curves = [*_CURVES, *(["validation"] if params.patience else [])]
    history = [{"epoch": int(row["epoch"]), **{name: row[name] for name in curves}} for row in outcome.history]
    regimes = predict_regimes(outcome.model, tested, params.horizons_months)
    before = predict_uncalibrated(outcome.model, tested, params.horizons_months)
    with storage.replacing(folder) as draft:
        draft.mkdir()
        (draft / "weights.safetensors").write_bytes(safetensors.torch.save(_sorted(tensors)))
        (draft / "model.json").write_text(storage.to_json(record), encoding="utf-8")
        (draft / "predictions.csv").write_text(_csv(sorted(lines, key=_by_id)), encoding="utf-8")
        (draft / "history.csv").write_text(_csv(history), encoding="utf-8")
        if regimes:
            rows = [{"patient_id": row.pop("patient_id"), "fold": fold, **row} for row in regimes]
            (draft / "regimes.csv").write_text(_csv(sorted(rows, key=_by_id)), encoding="utf-8")
        if before:
            rows = [{"patient_id": row.pop("patient_id"), "fold": fold, **row} for row in before]
            (draft / "uncalibrated.csv").write_text(_csv(sorted(rows, key=_by_id)), encoding="utf-8")


def cohort_record(cohort: Mapping[str, str], chosen: Sequence[PatientBag], params: TrainParams) -> dict[str, Any]:
    """Name and endpoint of the cohort, and the Kaplan-Meier curve of the training part {months: share} at the horizons.

    Null beyond the longest follow-up: nothing is extrapolated. Empty for patients of no cohort.
    """
    if not cohort:
        return {}
    longest = max(bag.time_months for bag in chosen)
    curve = {f"{t:g}": _kaplan_meier(chosen, t) if t <= longest else None for t in params.horizons_months}
    return {**cohort, "patients": len(chosen), "events": sum(bag.event for bag in chosen), "survival": curve}


def _kaplan_meier(chosen: Sequence[PatientBag], months: float) -> float:
    """Share without the event after `months`: the product over event times of 1 - events / patients at risk."""
    share = 1.0
    for time in sorted({bag.time_months for bag in chosen if bag.event and bag.time_months <= months}):
        events = sum(bag.event and bag.time_months == time for bag in chosen)
        share *= 1 - events / sum(bag.time_months >= time for bag in chosen)
    return share


def load(folder: storage.Location) -> TrainedModel:
    """The model of a fold folder that `write` wrote, local or in S3.

    Raises DataError when a file is missing, torn or does not belong to the other.
    """
    where = storage.join(folder, "weights.safetensors")
    try:
        tensors = safetensors.torch.load(storage.read_bytes(where))
    except safetensors.SafetensorError as error:
        raise DataError(f"not a safetensors file ({error})", where, "train the fold again") from error
    spec = storage.read_json(storage.join(folder, "model.json"))
    return TrainedModel.from_state(tensors, spec, storage.join(folder, "model.json"))


def is_current(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the folder is whole and was made from the same data, settings and code."""
    names = ("weights.safetensors", "model.json", "predictions.csv", "history.csv")
    if not all((folder / name).is_file() for name in names):
        return False
    try:
        record = storage.read_json(folder / "model.json")
    except DataError:
        return False  # torn from outside: train it again
    return all(record.get(name) == value for name, value in identity.items())


def summary(folder: Path, fold: int, train_patients: int, test_patients: int) -> FoldSummary:
    """The few numbers of a written fold."""
    tensors = safetensors.torch.load_file(folder / "weights.safetensors")
    with (folder / "history.csv").open(encoding="utf-8", newline="") as stream:
        last = list(csv.DictReader(stream))[-1]
    return FoldSummary(
        fold=fold,
        train_patients=train_patients,
        test_patients=test_patients,
        parameters=sum(value.numel() for value in tensors.values()),
        loss=float(last["loss"]),
    )


def _plain(params: TrainParams) -> list[float]:
    return list(params.horizons_months)


def _sorted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[name] for name in sorted(tensors)}


def _by_id(row: Mapping[str, Any]) -> str:
    return str(row["patient_id"])


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; floats in their shortest form that reads back to the same bits. A refit has no tested patient."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["patient_id", "fold", "risk"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
