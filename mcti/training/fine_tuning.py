"""Training of a network that continues a pretrained one, and the choice of how, inside the training part alone."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mcti.dataset.bags import PatientBag
from mcti.dataset.batches import collate
from mcti.dataset.scaling import fit_covariates, fit_inputs
from mcti.errors import DataError
from mcti.model.cox import inner_folds
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.progress import Progress
from mcti.training import loop, pretraining, pretraining_store
from mcti.training.loop import CheckpointConfig, Outcome
from mcti.training.objective import Objective
from mcti.training.run import Diverged, Task
from mcti.training.start import Start
from mcti.training.successive_runs import SuccessiveRuns

_log = logging.getLogger(__name__)

CHOICES = ("none", "frozen", "partial", "full")
"""Ways to use a pretrained network; the first one does not use it. Of equal ones the earlier is chosen."""
INNER_FOLDS = 3
"""Inner folds of the training part in which the ways are compared."""
RATE = {"frozen": 1.0, "partial": 0.3, "full": 0.3}
"""Learning rate of the continued training, as a share of `train.learning_rate`."""


def train(
    task: Task,
    *,
    checkpointing: CheckpointConfig | None = None,
    progress: Progress | None = None,
    trace: Path | None = None,
) -> Outcome:
    """Train one model; with sources or a prior its network may continue a pretrained one (docs/transfer.md).

    With sources the network is pretrained on them, from the prior where there is one; otherwise the prior itself is
    the pretrained network. Arguments and errors as in `mcti.training.loop.train`.
    """
    choices = choices_of(task)
    if choices == ["none"]:
        return loop.train(task, checkpointing=checkpointing, progress=progress, trace=trace)
    inner = len(choices) * INNER_FOLDS if len(choices) > 1 else 0
    runs = SuccessiveRuns(progress, 1 + inner + bool(task.sources))
    start = _start(task, checkpointing, runs)
    runs.finished = int(bool(task.sources))
    losses = _compare(task, start, choices, checkpointing, runs) if inner else {}
    choice = min(losses, key=lambda name: losses[name]) if losses else choices[0]
    if losses:
        shown = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        _log.info("%s: fine-tuning %s; survival loss in inner folds: %s", task.where, choice, shown)
    outcome = loop.train(_with(task, start, choice), checkpointing=checkpointing, progress=runs.progress, trace=trace)
    finite = {name: loss if math.isfinite(loss) else None for name, loss in losses.items()}
    return dataclasses.replace(outcome, fine_tuning={"choice": choice, "inner_loss": finite})


def choices_of(task: Task) -> list[str]:
    """The ways of fine-tuning that a task compares; one without a comparison.

    Comparators have no branches of their own names, so that `partial` would be `full`.
    """
    params = task.params
    if not (task.sources or task.prior) or params.cox_weight == 1:
        return ["none"]
    if params.fine_tuning != "auto":
        return [params.fine_tuning]
    return [name for name in CHOICES if name != "partial" or task.config.network == "mcti"]


def _with(task: Task, start: Start, choice: str) -> Task:
    if choice == "none":
        return task
    params = task.params.model_copy(update={"learning_rate": RATE[choice] * task.params.learning_rate})
    return dataclasses.replace(task, params=params, start=dataclasses.replace(start, trained=choice))


def _compare(
    task: Task, start: Start, choices: Sequence[str], checkpointing: CheckpointConfig | None, runs: SuccessiveRuns
) -> dict[str, float]:
    """Mean survival loss of the patients of the inner folds by models that were not trained on them, by choice.

    A training part with too few events for an inner fold has no comparison: the result is empty but for `none`.
    """
    events = np.array([bag.event for bag in task.bags])
    fold_of = inner_folds(events, INNER_FOLDS, task.params.seed)
    sums = dict.fromkeys(choices, 0.0)
    for number in range(INNER_FOLDS):
        try:
            inner = _inner_task(
                task, [bag for bag, fold in zip(task.bags, fold_of, strict=True) if fold != number], number
            )
        except DataError as error:
            _log.warning(
                "%s: no transfer of the network, since the inner folds are too small: %s", task.where, error.what
            )
            return {"none": float("nan")}
        held_out = [bag for bag, fold in zip(task.bags, fold_of, strict=True) if fold == number]
        for choice in choices:
            try:
                model = loop.train(
                    _with(inner, start, choice),
                    checkpointing=_inner_checkpoints(checkpointing, f"fine_tuning_{choice}_{number}"),
                    progress=runs.progress,
                ).model
                sums[choice] += float(survival_losses(model, held_out, task.params).sum())
            except Diverged:
                sums[choice] = float("inf")
            runs.finished += 1
    return {choice: total / len(task.bags) for choice, total in sums.items()}


def _inner_task(task: Task, bags: list[PatientBag], number: int) -> Task:
    """The task of an inner part: scales and bins are fitted to it alone; the network without Cox branch."""
    config, params = task.config, task.params.model_copy(update={"cox_weight": 0.0, "patience": 0})
    fitted = fit_inputs(bags, params.bins, len(config.genes), params.gene_transform)
    if len(fitted.features.mean) != config.features:  # no patient of the part has slides
        fitted = dataclasses.replace(fitted, features=task.fitted.features)
    if config.covariates:
        fitted = dataclasses.replace(fitted, covariates=fit_covariates(bags, config.clinical_inputs))
    key = (*task.seed_key, "fine-tuning", number)
    where = f"{task.where}, inner fold {number + 1} of the fine-tuning"
    return Task(bags, fitted, config, params, key, where)


def survival_losses(model: TrainedModel, bags: Sequence[PatientBag], params: TrainParams) -> torch.Tensor:
    """Negative log-likelihood of the outcome of each patient, (n,) float64; lower is better."""
    settings = params.model_copy(update={"alpha": 0.0, "precision": "float32"})
    objective = Objective(bags, model.fitted, model.config, settings, torch.device("cpu"))
    values = []
    for bag in bags:
        logits = model.output(bag.patches, bag.genes, bag.clinical).hazard_logits
        batch = collate([bag], model.fitted, 1, (0,), model.config.clinical_inputs)
        values.append(objective.likelihood(logits, batch).double())
    return torch.cat(values)


def _start(task: Task, checkpointing: CheckpointConfig | None, runs: SuccessiveRuns) -> Start:
    """The pretrained network: of the sources, or the prior."""
    prior = _prior_start(task)
    if not task.sources:
        assert prior is not None
        return prior
    prepared = pretraining.prepare(task.sources, task.config, task.params, start=prior)
    return pretraining_store.pretrained(prepared, checkpointing, runs.progress).start("full")


def _prior_start(task: Task) -> Start | None:
    """The network of a member of the prior; the fold decides which, so that the folds start from different ones."""
    if task.prior is None:
        return None
    names = sorted(task.prior.members)
    fold = 0 if task.sources else max(0, next((part for part in task.seed_key if isinstance(part, int)), 0))
    model = task.prior.members[names[fold % len(names)]]
    return Start(model.config, model.net.state_dict(), slides=task.prior.slides)


def _inner_checkpoints(checkpointing: CheckpointConfig | None, name: str) -> CheckpointConfig | None:
    if checkpointing is None:
        return None
    identity = {**checkpointing.identity, "inner": name}
    return CheckpointConfig(checkpointing.folder / name, identity, checkpointing.stop, save_last=True)
