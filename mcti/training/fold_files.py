"""The folder of a trained fold: predictions of its test patients, weights, settings; atomic writing, and reading."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch

from mcti import storage
from mcti.dataset.bags import PatientBag
from mcti.errors import DataError, MctiError
from mcti.model.reference_profile import ReferenceProfile
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.redaction import hashed
from mcti.training.batched_risks import batched_risks
from mcti.training.loop import Outcome

_CURVES = ("loss", "survival", "subtype", "instance", "c_index", "learning_rate")
_VALIDATION = ("validation", "validation_c_index")
"""Columns of history.csv after the epoch: of the training part, and of the validation part of early stopping."""
REFERENCE_PATIENTS = 200
"""Training patients who are predicted for the scale of the risks (mcti/model/reference_profile.py)."""


@dataclass(frozen=True)
class FoldSummary:
    """The size and the last loss of a trained fold."""

    fold: int
    train_patients: int
    test_patients: int
    parameters: int
    loss: float


def predict(
    model: TrainedModel, bags: Sequence[PatientBag], horizons: Sequence[float], *, subtypes: bool = False
) -> list[dict[str, float]]:
    """Risk and S(t) of each patient, one at a time (mcti/model/trained.py).

    horizons  months t of S(t);  subtypes: with the probability of each subtype

    Raises DataError when the bag of a patient does not fit the model, naming the patient.
    """
    rows = []
    for bag in bags:
        try:
            rows.append(model.predict(bag.patches, bag.genes, horizons, bag.clinical, subtypes=subtypes))
        except MctiError as error:
            raise error.with_patient(bag.patient_id) from error
    return rows


def predict_regimes(model: TrainedModel, bags: Sequence[PatientBag], horizons: Sequence[float]) -> list[dict[str, Any]]:
    """Predictions from slides only and from genes only of each patient with both modalities; one row per prediction.

    horizons in months. Empty for a model without learned values for an absent modality.
    """
    if not model.config.missing or len(model.config.modalities) < 2:
        return []
    rows: list[dict[str, Any]] = []
    for bag in bags:
        if bag.patches is not None and bag.genes is not None:
            inputs = {"slides_only": (bag.patches, None), "genes_only": (None, bag.genes)}
            for regime, (patches, genes) in inputs.items():
                prediction = model.predict(patches, genes, horizons, bag.clinical)
                rows.append({"patient_id": bag.patient_id, "regime": regime, **prediction})
    return rows


def predict_uncalibrated(
    model: TrainedModel, bags: Sequence[PatientBag], horizons: Sequence[float]
) -> list[dict[str, Any]]:
    """Predictions without the recalibration, one row per patient; empty for a model without one; horizons in months."""
    if model.fitted.recalibration is None:
        return []
    plain = TrainedModel(model.net, model.config, dataclasses.replace(model.fitted, recalibration=None))
    rows = predict(plain, bags, horizons)
    return [{"patient_id": bag.patient_id, **row} for bag, row in zip(bags, rows, strict=True)]


def write(
    folder: Path,
    outcome: Outcome,
    train_bags: Sequence[PatientBag],
    test_bags: Sequence[PatientBag],
    params: TrainParams,
    fold: int,
    identity: Mapping[str, Any],
    data_record: Mapping[str, Any],
) -> None:
    """Write the folder of a fold, complete or not at all; the same outcome gives the same bytes.

    data_record  entries of model.json about the data: features (how they were extracted), cohort
    """
    model, horizons = outcome.model, params.horizons_months
    rows = predict(model, test_bags, horizons, subtypes=True)
    predictions = [{"patient_id": bag.patient_id, **row} for bag, row in zip(test_bags, rows, strict=True)]
    risks = [row["risk"] for row in rows]
    record = {**_record(outcome, train_bags, risks, params), **identity, **data_record}
    tables = {
        "predictions.csv": predictions,
        "regimes.csv": predict_regimes(model, test_bags, horizons),
        "uncalibrated.csv": predict_uncalibrated(model, test_bags, horizons),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.net.state_dict().items()}
    with storage.replacing(folder) as draft:
        draft.mkdir()
        (draft / "weights.safetensors").write_bytes(safetensors.torch.save(dict(sorted(tensors.items()))))
        (draft / "model.json").write_text(storage.to_json(record), encoding="utf-8")
        (draft / "history.csv").write_text(_csv(_history(outcome, params)), encoding="utf-8")
        for name, table in tables.items():
            if table or name == "predictions.csv":
                lines = [{"patient_id": row["patient_id"], "fold": fold, **row} for row in sorted(table, key=_by_id)]
                (draft / name).write_text(_csv(lines), encoding="utf-8")


def _record(
    outcome: Outcome, train_bags: Sequence[PatientBag], risks: Sequence[float], params: TrainParams
) -> dict[str, Any]:
    """The entries of model.json about the model and its training patients; risks: of the test patients."""
    model = outcome.model
    hashes = {hashed(bag.patient_id): bag for bag in train_bags}
    sample = [hashes[name] for name in sorted(hashes)[:REFERENCE_PATIENTS]]
    train_risks = batched_risks(model, sample)
    events, genes, covariates = sum(bag.event for bag in train_bags), model.config.genes, model.config.clinical_inputs
    reference = ReferenceProfile.fit(train_bags, genes, events, model.fitted, risks, train_risks, covariates)
    return {
        **model.spec(),
        "patients": sorted(hashes),
        "horizons_months": list(params.horizons_months),
        "reference": reference.spec(),
        "trained_bag_cap": outcome.bag_cap,  # below train.bag_cap where the GPU had too little memory for it
        **({} if outcome.fine_tuning is None else {"fine_tuning": dict(outcome.fine_tuning)}),
        **({} if outcome.cox_fit is None else {"cox_fit": dict(outcome.cox_fit)}),
    }


def _history(outcome: Outcome, params: TrainParams) -> list[dict[str, Any]]:
    # Columns by name: a history that was restored from a checkpoint has its keys in another order.
    curves = [*_CURVES, *(_VALIDATION if params.patience else ())]
    return [{"epoch": int(row["epoch"]), **{name: _cell(row[name]) for name in curves}} for row in outcome.history]


def _cell(value: float) -> float | str:
    """An undefined number as an empty cell."""
    return value if value == value else ""


def cohort_record(cohort: Mapping[str, str], bags: Sequence[PatientBag], params: TrainParams) -> dict[str, Any]:
    """The description of the cohort, and the Kaplan-Meier curve of the training part {months: share} at the horizons.

    `late_entries` counts the patients who came under observation after the origin, where there are some. The curve is
    null beyond the longest follow-up, without extrapolation. Empty for patients without a cohort.
    """
    if not cohort:
        return {}
    longest = max(bag.time_months for bag in bags)
    curve = {f"{t:g}": _kaplan_meier(bags, t) if t <= longest else None for t in params.horizons_months}
    counts = {"patients": len(bags), "events": sum(bag.event for bag in bags)}
    late = sum(bag.entry_months > 0 for bag in bags)
    return {**cohort, **counts, **({"late_entries": late} if late else {}), "survival": curve}


def _kaplan_meier(bags: Sequence[PatientBag], months: float) -> float:
    """Share without the event after `months`: the product over event times of 1 - events / patients at risk."""
    share = 1.0
    for time in sorted({bag.time_months for bag in bags if bag.event and bag.time_months <= months}):
        events = sum(bag.event and bag.time_months == time for bag in bags)
        share *= 1 - events / sum(bag.entry_months < time <= bag.time_months for bag in bags)
    return share


def load(folder: storage.Location) -> TrainedModel:
    """The model of a fold folder that `write` wrote, local or in S3.

    Raises DataError when a file is missing or truncated, or weights and model.json do not match.
    """
    where = storage.join(folder, "weights.safetensors")
    try:
        tensors = safetensors.torch.load(storage.read_bytes(where))
    except safetensors.SafetensorError as error:
        raise DataError(f"not a safetensors file ({error})", where, "train the fold again") from error
    spec = storage.read_json(storage.join(folder, "model.json"))
    return TrainedModel.from_state(tensors, spec, storage.join(folder, "model.json"))


def is_current(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the folder is complete and was made from the same data, settings and code."""
    names = ("weights.safetensors", "model.json", "predictions.csv", "history.csv")
    if not all((folder / name).is_file() for name in names):
        return False
    try:
        record = storage.read_json(folder / "model.json")
    except DataError:
        return False  # damaged: the fold is trained again
    return all(record.get(name) == value for name, value in identity.items())


def summary(folder: Path, fold: int, train_patients: int, test_patients: int) -> FoldSummary:
    """The summary of a written fold."""
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


def _by_id(row: Mapping[str, Any]) -> str:
    return str(row["patient_id"])


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; floats in their shortest form that reads back to the same bits. A refit has no test patient."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["patient_id", "fold", "risk"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
