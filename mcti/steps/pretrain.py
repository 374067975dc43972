"""pretrain: one model over several cohorts, from which training on another cohort can start."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcti import storage
from mcti.errors import UsageError
from mcti.params import SplitParams, TrainParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged

if TYPE_CHECKING:  # they import pandas, which the first line of the log does not need
    from mcti.cohort.pooling import NamedCohort
    from mcti.dataset.sources import SourceFiles


class PretrainResult(StepResult):
    """Size of the pool and its folds. slides: patients with features; patients: by cohort."""

    cohorts: tuple[str, ...]
    patients: tuple[int, ...]
    events: int
    genes: int
    slides: int
    folds: int
    loss: tuple[float, ...]


@logged
@tracked
def pretrain(params: TrainParams, split: SplitParams, out: Path, *, progress: Progress | None = None) -> PretrainResult:
    """Pool the cohorts of `train.sources`, split the pool into folds and train one model per fold.

    Reads   the cohorts and features of params.sources
    Writes  out/cohort and out/features (the pool), out/folds/folds.csv, out/models/fold_<k>: the inputs of the steps
            `validate`, `evaluate` and `register`. No out/features where no source has features that can be used
    Raises  UsageError when there are fewer than two sources, or a prior
            DataError when two sources cannot be used together, or a fold cannot be trained
            Paused after SIGTERM: the same command resumes

    The network learns within each cohort (mcti/training/pretraining.py), then its heads learn on the pool. The Cox
    branch is stratified by cohort. The settings `patience` and `recalibration_folds` are not used.
    """
    from mcti.steps.split import split as split_step
    from mcti.steps.train import train as train_step

    _check_settings(params)
    covariates = params.architecture.covariates or ()
    has_features = _write_pool(params, covariates, out, keep=split.missing_modality == "keep")
    cohort, features, folds = out / "cohort", out / "features" if has_features else None, out / "folds" / "folds.csv"
    folds.parent.mkdir(exist_ok=True)
    split_step(cohort, None, split, folds)
    trained = train_step(cohort, features, folds, _settings(params), out / "models", by_cohort=True, progress=progress)
    result = _result(out, has_features, trained.loss)
    result.save(out)
    return result


def _check_settings(params: TrainParams) -> None:
    if len(params.sources) < 2:
        what = f"{len(params.sources)} cohorts to pretrain on"
        raise UsageError(what, "params.yaml, key train.sources", "list two cohorts or more (docs/transfer.md)")
    if params.prior is not None:
        what = f"a pretraining does not start from a model, and train.prior is {params.prior}"
        raise UsageError(what, "params.yaml, key train.prior", "remove it")


def _settings(params: TrainParams) -> TrainParams:
    """The settings of the folds; held-out patients of a fold would be in the pretraining of its network."""
    changes = {"sources": (), "fine_tuning": "frozen", "patience": 0, "recalibration_folds": 0}
    return params.model_copy(update=changes)


def _write_pool(params: TrainParams, covariates: Sequence[str], out: Path, *, keep: bool) -> bool:
    """Write out/cohort and out/features; whether there are features. keep: patients without slides stay."""
    from mcti.cohort import tables
    from mcti.cohort.pooling import pool
    from mcti.dataset.source_checks import CohortFacts, check_pool

    facts = [CohortFacts.read(one.cohort, one.features, params.modalities) for one in params.sources]
    files = check_pool(facts, covariates)
    cohorts = [_read(one, keep=keep) for one in files]
    pooled = pool([cohort for cohort, _ in cohorts], covariates)
    with storage.replacing(out / "cohort") as draft:
        draft.mkdir(parents=True)
        tables.write(pooled, draft)
    if not any(names for _, names in cohorts):
        shutil.rmtree(out / "features", ignore_errors=True)
        return False
    with storage.replacing(out / "features") as draft:
        draft.mkdir()
        for one, (_, names) in zip(files, cohorts, strict=True):
            if one.features is not None:
                _link(one.features, names, draft)
    return True


def _read(files: "SourceFiles", *, keep: bool) -> "tuple[NamedCohort, list[str]]":
    """A cohort and the names of its feature files; a patient without slides is left out unless `keep`."""
    from mcti.cohort import tables
    from mcti.cohort.pooling import NamedCohort
    from mcti.cohort.tables import ExcludedPatient
    from mcti.dataset.loading import slides_with_features
    from mcti.steps.split import NO_FEATURES

    info, patients = tables.read_info(files.cohort), tables.read_patients(files.cohort)
    slides, expression = tables.read_slides(files.cohort), tables.read_expression(files.cohort)
    names = slides_with_features(files.cohort, files.features, patients["patient_id"])
    if files.features is not None and not keep:
        excluded = [
            ExcludedPatient(patient_id=name, reason=NO_FEATURES) for name in patients["patient_id"] if name not in names
        ]
        info = info.model_copy(update={"attrition": (*info.attrition, *excluded)})
        patients = patients[patients["patient_id"].isin(list(names))]
        slides = slides[slides["patient_id"].isin(list(names))]
        expression = expression[expression.index.isin(list(names))]
    cohort = tables.Cohort(patients, expression, slides, info)
    named = NamedCohort(info.name, files.cohort, storage.tree_md5(files.cohort), cohort)
    return named, [name for one in names.values() for name in one]


def _link(features: str, names: Sequence[str], folder: Path) -> None:
    """Feature files in `folder` without a copy of their bytes where the file system permits."""
    for name in names:
        target = folder / f"{name}.h5"
        with storage.local_copy(storage.join(features, f"{name}.h5")) as path:
            with contextlib.suppress(OSError):  # another file system, or one without links
                os.link(Path(path).resolve(), target)
            if not target.exists():
                shutil.copyfile(path, target)


def _result(out: Path, has_features: bool, loss: tuple[float, ...]) -> PretrainResult:
    from mcti.cohort import tables
    from mcti.dataset.loading import slides_with_features

    patients, info = tables.read_patients(out / "cohort"), tables.read_info(out / "cohort")
    counts = patients["cohort"].value_counts()
    return PretrainResult(
        cohorts=tuple(info.sources),
        patients=tuple(int(counts[name]) for name in info.sources),
        events=info.counts["events"],
        genes=info.counts["genes"],
        slides=len(slides_with_features(out / "cohort", out / "features")) if has_features else 0,
        folds=len(loss),
        loss=loss,
    )
