"""Several trained models in one evaluation: each by the name of its folder, all of them trained on the same folds."""

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
    peers: Sequence[Location], outcomes: Outcomes, horizons: FloatArray, taken: Collection[str]
) -> dict[str, Predictions]:
    """{name: out-of-fold predictions} of every folder that `mcti train` wrote; the folder's last name is the model's.

    taken  names that other rows of the table have: ours and the baselines

    Raises
        UsageError: two rows of the table would have one name.
        DataError: predictions are missing or malformed, or a model was trained on other patients than the folds say.
    """
    found: dict[str, Predictions] = {}
    for folder in peers:
        name = PurePosixPath(folder).name if storage.is_s3(folder) else Path(folder).resolve().name
        if name in found or name in taken:
            raise UsageError(f"two models of the table are called {name!r}", f"--peer {folder}", "rename the folder")
        check_training(folder, outcomes)
        found[name] = predictions.read_models(folder, outcomes, horizons)
    return found


def check_training(models: Location, outcomes: Outcomes) -> None:
    """Hold what each fold's model.json says of its training against the folds: the patients; and one another.

    Predictions alone do not show a model that had seen its test patients. A folder without model.json, as another
    program's predictions come in, is taken at its word.

    Raises
        DataError: naming the fold, and how many patients were trained on that should not have been, or were not; or
            in what its settings or code differ from those of the first fold.
    """
    files = {fold.number: storage.join(models, f"fold_{fold.number}", "model.json") for fold in outcomes.folds}
    specs = {where: storage.read_json(where) for where in files.values() if storage.exists(where)}
    for fold in outcomes.folds:
        trained = specs.get(files[fold.number], {}).get("patients")
        if trained is not None:
            _compare(set(trained), fold, outcomes, files[fold.number])
    compatibility.check_folds(specs)


def _compare(trained: set[str], fold: Fold, outcomes: Outcomes, where: str) -> None:
    ids = outcomes.patient_ids
    seen = trained & {hashed(ids[row]) for row in fold.patients}
    hint = "train on these folds (mcti train), or evaluate on those that it was trained on"
    if seen:
        what = f"the model was trained on {len(seen)} of the {len(fold.patients)} patients that it is tested on"
        raise DataError(what, where, hint)
    due = {hashed(ids[row]) for row in fold.train_patients}
    if trained != due:
        what = f"trained on other patients than the fold's: {len(trained - due)} more, {len(due - trained)} missing"
        raise DataError(what, where, hint)
