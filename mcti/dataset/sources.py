"""Sources of transfer: other cohorts that training learns from, loaded in the gene vocabulary of the target."""

from collections.abc import Sequence
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
    """

    sources: tuple[Dataset, ...] = ()
    prior: Prior | None = None


NO_TRANSFER = Transfer()


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
