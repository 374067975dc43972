"""Pretraining of one network on several cohorts; each cohort has its own scales, time bins, hazards and subtypes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mcti.dataset.bags import Dataset, PatientBag, check_training_part, covariate_table
from mcti.dataset.batches import Batch, collate
from mcti.dataset.sampling import seeded_generator
from mcti.dataset.scaling import axis_inputs, fit_axes_to, fit_clinical_scale, fit_inputs
from mcti.dataset.time_bins import base_hazard
from mcti.errors import DataError
from mcti.model.cohort_networks import CohortNetworks
from mcti.model.presets import ModelConfig
from mcti.model.trained import Fitted
from mcti.params import TrainParams
from mcti.progress import Progress
from mcti.training.allocator import kept_memory
from mcti.training.loop import CheckpointConfig, device_of, finish, reproducible
from mcti.training.objective import Forward, Objective, PairTerms
from mcti.training.run import Run, Task, c_index
from mcti.training.start import Start


@dataclass(frozen=True)
class SourceCohort:
    """One cohort of a pretraining: its patients, whose ids start with its name, its scales, bins and subtypes."""

    name: str
    bags: tuple[PatientBag, ...]
    fitted: Fitted
    config: ModelConfig


@dataclass(frozen=True)
class PretrainingTask(Task):
    """A task over the patients of several cohorts, which are in the order of their names."""

    cohorts: tuple[SourceCohort, ...] = ()


@dataclass(frozen=True)
class Pretrained:
    """The result of a pretraining.

    config   of the shared network, with the subtypes of the first cohort
    tensors  the shared weights by name
    history  one row per epoch; `c_index` is the mean over the cohorts
    """

    config: ModelConfig
    tensors: Mapping[str, Tensor]
    history: tuple[Mapping[str, float], ...]

    def start(self, trained: str) -> Start:
        """The start of a training that continues this network; `trained` as in `Start`."""
        return Start(self.config, self.tensors, trained)


def prepare(
    sources: Sequence[Dataset],
    config: ModelConfig,
    params: TrainParams,
    seed_key: tuple[int | str, ...] = ("pretraining",),
    start: Start | None = None,
) -> PretrainingTask:
    """The checked task of a pretraining on all patients of the sources; their order does not matter.

    sources  with the same genes, NaN where a cohort has no such gene
    config   of the network that continues the pretrained one; its architecture and genes
    start    trained weights that the pretraining starts from

    Raises DataError when a source has too few events or a malformed bag, or the sources differ in genes or features
    """
    named = sorted(_unique_names(sources).items())
    _check_equal_inputs(named, config)
    missing = any(bag.patches is None or bag.genes is None for _, data in named for bag in data.bags.values())
    present = {
        "slides": any(bag.patches is not None for _, data in named for bag in data.bags.values()),
        "genes": any(bag.genes is not None for _, data in named for bag in data.bags.values()),
    }
    modalities = tuple(name for name in config.modalities if present[name])
    if not modalities:
        hint = f"use sources with {' or '.join(config.modalities)}"
        raise DataError(f"no source has {' or '.join(config.modalities)}", "train.sources", hint)
    shared = dataclasses.replace(config, missing=missing, modalities=modalities, cox_branch=False)
    cohorts = tuple(_cohort(name, data, shared, params) for name, data in named)
    bags = [bag for cohort in cohorts for bag in cohort.bags]
    first = cohorts[0]
    return PretrainingTask(
        bags, first.fitted, first.config, params, seed_key, "pretraining", start=start, cohorts=cohorts
    )


def pretrain(
    task: PretrainingTask, *, checkpointing: CheckpointConfig | None = None, progress: Progress | None = None
) -> Pretrained:
    """Train the shared network; arguments and errors as in `mcti.training.loop.train`."""
    with reproducible(task.params.threads), kept_memory():
        run = PretrainingRun(task, device_of(task.params))
        finish(run, checkpointing, progress)
        nets = run.state.kept()
        assert isinstance(nets, CohortNetworks)
        tensors = {name: tensor.detach().cpu() for name, tensor in nets.shared_tensors().items()}
    return Pretrained(task.config, tensors, tuple(run.state.history))


class PretrainingRun(Run):
    """A run whose steps contain the same number of patients of every cohort.

    A cohort gives its patients in a random order, and again in another one when all were used. The loss of a patient
    has the time bins, hazards and subtypes of the patient's cohort, and compares patients of one cohort alone.
    """

    task: PretrainingTask

    def __init__(self, task: PretrainingTask, device: torch.device) -> None:
        self.cohorts = {cohort.name: cohort for cohort in task.cohorts}
        self.cohort_of = {bag.patient_id: cohort.name for cohort in task.cohorts for bag in cohort.bags}
        self._permuted: dict[str, tuple[tuple[int | str, ...], list[int]]] = {}
        self.share = max(1, task.params.batch_patients // len(task.cohorts))
        super().__init__(task, device)

    def _network(self) -> nn.Module:
        configs = {name: cohort.config for name, cohort in self.cohorts.items()}
        hazards = {name: base_hazard(cohort.bags, cohort.fitted.edges) for name, cohort in self.cohorts.items()}
        nets = CohortNetworks(configs, hazards)
        inputs = [axis_inputs(cohort.bags, cohort.fitted) for cohort in self.cohorts.values()]
        genes, features = ([row for pair in inputs for row in pair[part]] for part in (0, 1))
        fit_axes_to(nets.shared.axes, genes, features)
        if self.task.start is not None:
            self.task.start.copy_into(nets.shared)
        return nets.to(self.device)

    def _objective(self) -> Objective:
        return StratifiedObjective(self.task, self.cohort_of, self.device)

    def _count_steps(self) -> int:
        return -(-len(self.task.bags) // (self.share * len(self.cohorts)))

    def _epoch_order(self, epoch: int) -> list[list[int]]:
        if self._order[0] != epoch:
            first = epoch * self.steps_per_epoch
            self._order = epoch, [self._drawn(first + step) for step in range(self.steps_per_epoch)]
        return self._order[1]

    def _drawn(self, step: int) -> list[int]:
        """Positions of the patients of a step, cohort after cohort."""
        chosen, before = [], 0
        for name, cohort in self.cohorts.items():
            size, begin = len(cohort.bags), step * self.share
            for drawn in range(begin, begin + self.share):
                chosen.append(before + self._permutation(name, drawn // size, size)[drawn % size])
            before += size
        return chosen

    def _permutation(self, name: str, cycle: int, size: int) -> list[int]:
        key = (self.params.seed, *self.task.seed_key, "cohort", name, cycle)
        if name not in self._permuted or self._permuted[name][0] != key:
            self._permuted[name] = key, torch.randperm(size, generator=seeded_generator(*key)).tolist()
        return self._permuted[name][1]

    def _parts(self, chosen: list[PatientBag], positions: list[int]) -> list[list[int]]:
        """The positions by cohort: one forward pass has the patients of one cohort."""
        by_cohort: dict[str, list[int]] = {}
        for position in positions:
            by_cohort.setdefault(self.cohort_of[chosen[position].patient_id], []).append(position)
        return [part for rows in by_cohort.values() for part in super(PretrainingRun, self)._parts(chosen, rows)]

    def _collate(self, bags: list[PatientBag], epoch: int) -> Batch:
        cohort = self.cohorts[self.cohort_of[bags[0].patient_id]]
        key = (self.params.seed, epoch)
        return collate(bags, cohort.fitted, self.state.bag_cap, key, cohort.config.clinical_inputs)

    def _epoch_c_index(self, bags: list[PatientBag]) -> float:
        """Mean of the C of the cohorts in which it is defined."""
        values = []
        for name in self.cohorts:
            rows = [row for row, bag in enumerate(bags) if self.cohort_of[bag.patient_id] == name]
            values.append(c_index([bags[row] for row in rows], [self.state.risks[row] for row in rows]))
        known = [value for value in values if value == value]
        return sum(known) / len(known) if known else float("nan")


class StratifiedObjective(Objective):
    """The losses of patients of several cohorts: those of each cohort among its own patients."""

    def __init__(self, task: PretrainingTask, cohort_of: Mapping[str, str], device: torch.device) -> None:
        super().__init__(task.cohorts[0].bags, task.fitted, task.config, task.params, device)
        self.cohort_of = cohort_of
        self.objectives = {
            cohort.name: Objective(cohort.bags, cohort.fitted, cohort.config, task.params, device)
            for cohort in task.cohorts
        }

    def __call__(self, net: Forward, batch: Batch, pairs: PairTerms | None) -> dict[str, Tensor]:
        """As `Objective`, for a batch of one cohort."""
        cohort = self.cohort_of[batch.patient_ids[0]]
        return self.objectives[cohort](partial(net, cohort), batch, pairs)

    def pair_terms(self, risk: Tensor, bags: Sequence[PatientBag], memory: Mapping[str, tuple[float, float]]) -> Tensor:
        """As `Objective.pair_terms`, risk (b,) -> (b,), for patients of several cohorts, compared within each."""
        terms = torch.zeros_like(risk)
        for name, objective in self.objectives.items():
            rows = [row for row, bag in enumerate(bags) if self.cohort_of[bag.patient_id] == name]
            if rows:
                stored = {patient: pair for patient, pair in memory.items() if self.cohort_of[patient] == name}
                values = objective.pair_terms(risk[rows], [bags[row] for row in rows], stored)
                terms = terms.index_copy(0, torch.tensor(rows, device=risk.device), values)
        return terms


def _unique_names(sources: Sequence[Dataset]) -> dict[str, Dataset]:
    """The sources by the name of their cohort.

    Raises DataError when there is none, or two have one name
    """
    if not sources:
        raise DataError("no cohort to pretrain on", "train.sources", "name one cohort or more")
    named: dict[str, Dataset] = {}
    for number, data in enumerate(sources):
        name = data.cohort.get("name") or f"source {number}"
        if name in named:
            what = f"two sources have the cohort name {name!r}"
            raise DataError(what, "train.sources", "name each cohort once, and give each its own name at ingest")
        named[name] = data
    return named


def _check_equal_inputs(named: Sequence[tuple[str, Dataset]], config: ModelConfig) -> None:
    for name, data in named:
        if data.genes != config.genes:
            hint = "bring all sources to the genes of the network first"
            raise DataError("its genes are not those of the network", f"source {name}", hint)
        widths = {bag.patches.shape[-1] for bag in data.bags.values() if bag.patches is not None}
        if widths - {config.features}:
            what = f"features of width {min(widths - {config.features})}, and the network reads {config.features}"
            raise DataError(what, f"source {name}", "extract the slides of all cohorts with one encoder")


def _cohort(name: str, data: Dataset, shared: ModelConfig, params: TrainParams) -> SourceCohort:
    """A source with its scales, bins and subtypes; a subtype without a patient is left out.

    A covariate that the source does not have is missing for its patients.
    """
    where, bags = f"source {name}", list(data.bags.values())
    used = sorted({bag.subtype for bag in bags})
    classes = tuple(data.classes[position] for position in used)
    renamed = [
        dataclasses.replace(
            bag.with_inputs(shared.clinical_inputs),
            patient_id=f"{name}/{bag.patient_id}",
            subtype=used.index(bag.subtype),
        )
        for bag in sorted(bags, key=lambda bag: bag.patient_id)
    ]
    check_training_part(renamed, classes, where)
    try:
        fitted = fit_inputs(renamed, params.bins, len(data.genes), params.gene_transform)
    except DataError as error:
        raise DataError(error.what, where, "remove this source, or set train.bins.count lower") from error
    if all(bag.patches is None for bag in renamed):  # `fit_inputs` does not know the width
        features = dataclasses.replace(
            fitted.features, mean=torch.zeros(shared.features), sd=torch.ones(shared.features)
        )
        fitted = dataclasses.replace(fitted, features=features)
    if shared.covariates:
        inputs = shared.clinical_inputs
        scale = fit_clinical_scale(covariate_table(renamed, inputs), inputs)
        fitted = dataclasses.replace(fitted, covariates=scale)
    return SourceCohort(name, tuple(renamed), fitted, dataclasses.replace(shared, classes=classes))
