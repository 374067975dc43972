"""Sources of transfer: other cohorts that training learns from, loaded in the gene vocabulary of the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mcti.cohort import tables
from mcti.dataset.bags import Dataset
from mcti.dataset.loading import load_dataset
from mcti.model.prior import Prior


@dataclass(frozen=True)
class SourceFiles:
    """Where a source is read from, as plain values that are sent to a worker; features None: its genes alone."""

    cohort: str
    features: str | None


@dataclass(frozen=True)
class Transfer:
    """What a training learns from besides its training part; nothing by default.

    sources  other cohorts, raw, with the genes of the target
    prior    the registered model to start from
    by_cohort  whether the sources are the cohorts of the training part itself: its patients, one source per cohort
    """

    sources: tuple[Dataset, ...] = ()
    prior: Prior | None = None
    by_cohort: bool = False


NO_TRANSFER = Transfer()


def cohorts_of(data: Dataset, cohort_of: Mapping[str, str], patients: Sequence[str]) -> Transfer:
    """The cohorts of a training part, for a training within each of them; cohort_of: name by patient."""
    names = sorted({cohort_of[patient] for patient in patients})
    parts = {name: {p: data.bags[p] for p in patients if cohort_of[p] == name} for name in names}
    sources = [replace(data, bags=bags, cohort={**data.cohort, "name": name}) for name, bags in parts.items()]
    return Transfer(tuple(sources), by_cohort=True)


def load_sources(
    files: Sequence[SourceFiles], genes: Sequence[str], modalities: str, covariates: Sequence[str] = ()
) -> tuple[Dataset, ...]:
    """The sources in the order of `files`, raw, with the genes of the target: NaN for a gene that a source lacks.

    genes       of the target, in its order;  modalities  both | slides | genes
    covariates  that the model reads; a source without one of them has None in its place

    Raises DataError when a table or a feature file is missing or malformed.
    """
    return tuple(_with_covariates(_load(one, genes, modalities), covariates) for one in files)


def _with_covariates(data: Dataset, names: Sequence[str]) -> Dataset:
    empty = dict.fromkeys(names)
    bags = {name: replace(bag, covariates={**empty, **bag.covariates}) for name, bag in data.bags.items()}
    return replace(data, bags=bags)


def _load(files: SourceFiles, genes: Sequence[str], modalities: str) -> Dataset:
    columns = set(tables.gene_names(files.cohort))
    features = None if modalities == "genes" else files.features
    data = load_dataset(files.cohort, features, [gene for gene in genes if gene in columns])
    return data.with_genes(genes).restricted_to(modalities)
