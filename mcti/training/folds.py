"""One fold: who is in it, what is fitted on its training part, its run from the first step to its folder."""

import dataclasses
import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mcti.dataset
import mcti.model
import mcti.training
from mcti import storage
from mcti.dataset.bags import Dataset, PatientBag, check_training_part, digest
from mcti.dataset.sampling import hold_out
from mcti.dataset.scaling import fit_covariates, fit_inputs
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError
from mcti.model.presets import ModelConfig, preset
from mcti.model.trained import TrainedModel, select_modalities
from mcti.params import TrainParams
from mcti.params.result_settings import result_settings
from mcti.progress import Progress
from mcti.training import fold_files, recalibration
from mcti.training.distributed import ranks
from mcti.training.loop import CheckpointConfig, Outcome, train
from mcti.training.run import Task

_log = logging.getLogger(__name__)


class NothingToProfile(UserWarning):
    """A trace was asked of a fold that is trained already."""


def train_fold(
    data: Dataset,
    part: FoldSplit,
    params: TrainParams,
    out: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
    trace: Path | None = None,
    search: Mapping[str, Any] | None = None,
) -> fold_files.FoldSummary:
    """Train the model of a fold and write out/fold_<k>/{weights.safetensors,model.json,predictions.csv,history.csv},
    for a model that can do without a modality also regimes.csv, for one whose curves were recalibrated also
    uncalibrated.csv. `trace`: a file for the profile of a few steps. `search`: what model.json keeps of the search
    that chose the settings (None: nobody searched).

    A folder there that was made from the same data, settings and code is kept. A run that was killed goes on from the
    checkpoints in out/.work/fold_<k>, or below MCTI_CHECKPOINTS, which are gone when the fold is written.

    Raises DataError for a training part without events or without a patient of some subtype, for a wrong bag, for a
    loss that is no number, and for checkpoints of other data or settings. Paused when `stop()` said so.
    """
    where, folder = part.name.replace("_", " "), out / part.name
    chosen, tested = data.select(part.train, where), data.select(part.test, where)
    identity = identify(data, chosen, tested, params, part.fold) | ({} if search is None else {"search": dict(search)})
    work = _work(out, part, identity)
    if fold_files.is_current(folder, identity):
        _log.info("%s: already trained from the same data, settings and code, kept: %s", where, folder)
        if trace is not None:
            warnings.warn(f"{where} is finished: there is no step to profile", NothingToProfile, stacklevel=2)
    else:
        task = prepare(data, chosen, params, ("fold", part.fold), where)
        check_tested(task.config, tested, where)
        keeper = CheckpointConfig(work, identity, stop)
        runs = _Runs(progress, 1 + params.recalibration_folds)
        outcome = train(task, keeper=keeper, progress=runs.progress, trace=trace if ranks().first else None)
        if params.recalibration_folds:
            outcome = recalibrated(outcome, data, chosen, params, part, keeper, runs)
        if ranks().first:
            told = {"features": dict(data.provenance), "cohort": fold_files.cohort_record(data.cohort, chosen, params)}
            fold_files.write(folder, outcome, chosen, tested, params, part.fold, identity, told)
    ranks().wait()  # the others read what the first has written
    if ranks().first:
        shutil.rmtree(work, ignore_errors=True)
    return fold_files.summary(folder, part.fold, len(part.train), len(part.test))


def _work(out: Path, part: FoldSplit, identity: Mapping[str, Any]) -> Path:
    """Where the checkpoints of a fold lie.

    A task that Kubernetes tries again starts in an empty folder: MCTI_CHECKPOINTS names one that outlives the pod.
    Below it each run of a pipeline (MCTI_RUN) and each identity has its own, so that no two tasks share one.
    """
    lasting = os.environ.get("MCTI_CHECKPOINTS")
    if not lasting:
        return out / ".work" / part.name
    return Path(lasting) / (os.environ.get("MCTI_RUN") or "by hand") / storage.text_md5(storage.to_json(identity))


def prepare(
    data: Dataset, chosen: Sequence[PatientBag], params: TrainParams, seed_key: tuple[int | str, ...], where: str
) -> Task:
    """The task of training on `chosen`: checked bags, scales and bins fitted on them alone, the network's shape.

    With `patience` a share of `chosen` is held out: nothing is fitted on it, and its loss decides when to stop.
    """
    watched: list[PatientBag] = []
    if params.patience:
        chosen, watched = hold_out(chosen, params.validation_share, (params.seed, *seed_key))
        where = f"{where}, less its inner validation part"
    check_training_part(chosen, data.classes, f"the training part of {where}")
    fitted = fit_inputs(chosen, params.bins, len(data.genes), params.gene_transform)
    config = configure(data, chosen, params, features=len(fitted.features.mean))
    if config.covariates:
        fitted = dataclasses.replace(fitted, covariates=fit_covariates(chosen, config.covariates))
    return Task(chosen, fitted, config, params, seed_key, where, watched)


class _Runs:
    """The progress of several runs one after the other as one bar."""

    def __init__(self, progress: Progress | None, runs: int) -> None:
        self._tell, self._runs, self.done = progress, runs, 0
        self._restored: dict[int, float] = {}  # by run

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        """Progress of the run at hand, all of them taken for equally long."""
        if self._tell is not None:
            self._restored[self.done] = restored
            self._tell(self.done * total + done, self._runs * total, unit, detail, sum(self._restored.values()))


def recalibrated(
    outcome: Outcome,
    data: Dataset,
    chosen: Sequence[PatientBag],
    params: TrainParams,
    part: FoldSplit,
    keeper: CheckpointConfig,
    runs: _Runs,
) -> Outcome:
    """The outcome with its curves put right by inner models of the same training part (recalibration.py)."""
    config, fitted = outcome.model.config, outcome.model.fitted
    # An inner part may lack nobody's slides, and its model must still predict one who has none.
    shape = {"missing": config.missing, "modalities": config.modalities}
    settings = params.model_copy(update={"architecture": params.architecture.model_copy(update=shape)})

    def inner(kept: list[PatientBag], number: int) -> TrainedModel:
        runs.done = 1 + number
        where = f"{part.name.replace('_', ' ')}, inner model {number + 1} of the recalibration"
        task = prepare(data, kept, settings, ("fold", part.fold, "inner", number), where)
        own = CheckpointConfig(keeper.folder / f"inner_{number}", {**keeper.identity, "inner": number}, keeper.stop)
        return train(task, keeper=own, progress=runs.progress).model

    key = (params.seed, "fold", part.fold)
    found = recalibration.of(fitted.edges, chosen, params.recalibration_folds, key, inner)
    model = TrainedModel(outcome.model.net, config, dataclasses.replace(fitted, recalibration=found))
    return dataclasses.replace(outcome, model=model)


def check_tested(config: ModelConfig, tested: Sequence[PatientBag], where: str) -> None:
    """Refuse a test patient whom the model will not be able to predict, before hours are spent on training it.

    Raises DataError as `TrainedModel.predict`, naming the patient.
    """
    for bag in tested:
        try:
            select_modalities(config, bag.patches, bag.genes)
        except DataError as error:
            raise DataError(error.what, f"{error.where}, {where}, patient {bag.patient_id}", error.hint) from error


def configure(data: Dataset, chosen: Sequence[PatientBag], params: TrainParams, features: int) -> ModelConfig:
    """The network's shape; it learns stand-ins for an absent modality where training shows it one."""
    missing = params.modality_dropout > 0 or any(bag.patches is None or bag.genes is None for bag in chosen)
    seen = {"slides": any(bag.patches is not None for bag in chosen), "genes": any(b.genes is not None for b in chosen)}
    architecture = {"missing": missing, "modalities": [name for name, here in seen.items() if here]}
    architecture |= params.architecture.changes()
    return preset(
        params.preset,
        features=features,
        genes=data.genes,
        classes=data.classes,
        bins=params.bins.count,
        **architecture,
    )


def identify(
    data: Dataset, chosen: Sequence[PatientBag], tested: Sequence[PatientBag], params: TrainParams, fold: int
) -> dict[str, Any]:
    """What the bits of a fold's result depend on: data, settings and the code that trains."""
    names = hashlib.md5("\0".join([*data.genes, "", *data.classes]).encode(), usedforsecurity=False).hexdigest()
    covariates = params.architecture.covariates or ()
    digests = {
        "train": digest(chosen, covariates),
        "test": digest(tested, covariates),
        "names": names,
        "code": code_digest(),
    }
    return {"fold": fold, "digests": digests, "params": result_settings("train", params)}


@cache
def code_digest() -> str:
    """MD5 of the sources of mcti/{dataset,model,training}: a fold that other code trained is trained again."""
    total = hashlib.md5(usedforsecurity=False)
    for module in (mcti.dataset, mcti.model, mcti.training):
        package = Path(str(module.__file__)).parent
        for file in sorted(package.rglob("*.py")):
            total.update(f"{file.relative_to(package.parent).as_posix()}\0{storage.md5(file)}\n".encode())
    return total.hexdigest()
