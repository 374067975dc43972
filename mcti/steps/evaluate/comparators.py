"""Further trained models in one evaluation: each has the name of its folder; all were trained on the same folds."""

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from mcti import storage
from mcti.arrays import FloatArray
from mcti.errors import DataError, UsageError
from mcti.evaluation import predictions
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.model import compatibility
from mcti.redaction import hashed
from mcti.storage import Location


def read(
    folders: Sequence[Location], outcomes: Outcomes, horizons: FloatArray, reserved: Collection[str]
) -> dict[str, Predictions]:
    """{name: out-of-fold predictions} of every output folder of `mcti train`; the name is the last part of the path.

    reserved  names of the other models: MCTI, its parts and the baselines

    Raises
        UsageError when two models have one name
        DataError when predictions are missing or malformed, or a model was trained on other patients than the folds
    """
    models: dict[str, Predictions] = {}
    for folder in folders:
        name = PurePosixPath(folder).name if storage.is_s3(folder) else Path(folder).resolve().name
        if name in models or name in reserved:
            raise UsageError(f"two models have the name {name!r}", f"--comparator {folder}", "rename the folder")
        check_training(folder, outcomes)
        models[name] = predictions.read_models(folder, outcomes, horizons)
    return models


def check_training(models: Location, outcomes: Outcomes) -> None:
    """Check the training patients in each fold's model.json against the folds, and the folds against each other.

    Predictions alone do not show that a model was trained on its test patients. A folder without model.json, such as
    predictions of another program, is not checked.

    Raises
        DataError when a model was trained on test patients, or not on exactly the training part: names the fold
        DataError when settings or code of two folds differ
    """
    files = {fold.number: storage.join(models, f"fold_{fold.number}", "model.json") for fold in outcomes.folds}
    specs = {location: storage.read_json(location) for location in files.values() if storage.exists(location)}
    for fold in outcomes.folds:
        trained = specs.get(files[fold.number], {}).get("patients")
        if trained is not None:
            _check_patients(set(trained), fold, outcomes, files[fold.number])
    compatibility.check_folds(specs)


def _check_patients(trained: set[str], fold: Fold, outcomes: Outcomes, where: str) -> None:
    """trained: hashed ids of the training patients in model.json."""
    ids = outcomes.patient_ids
    tested = trained & {hashed(ids[row]) for row in fold.patients}
    hint = "train on these folds (mcti train), or evaluate on the folds that the model was trained on"
    if tested:
        what = f"the model was trained on {len(tested)} of the {len(fold.patients)} patients that it is tested on"
        raise DataError(what, where, hint)
    expected = {hashed(ids[row]) for row in fold.train_patients}
    if trained != expected:
        more, missing = len(trained - expected), len(expected - trained)
        what = f"the training patients differ from those of the fold: {more} more, {missing} missing"
        raise DataError(what, where, hint)
