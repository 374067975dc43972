"""What the steps `search` and `train` learn from besides their cohort: the sources and the prior of `train`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mcti.cohort import tables
from mcti.cohort.folds import Folds
from mcti.dataset.bags import Dataset
from mcti.dataset.source_checks import CohortFacts, check_prior, check_sources
from mcti.dataset.sources import SourceFiles, Transfer, cohorts_of, load_sources
from mcti.params import TrainParams
from mcti.registry.priors import PriorFiles, fetch_prior, read_prior
from mcti.storage import Location


@dataclass(frozen=True)
class TransferFiles:
    """Sources and prior as plain values that are sent to a worker; covariates: those that the model reads."""

    sources: tuple[SourceFiles, ...] = ()
    prior: PriorFiles | None = None
    covariates: tuple[str, ...] = ()


NO_FILES = TransferFiles()


@contextmanager
def transfer_files(
    cohort: Location, features: Location | None, folds: Folds, params: TrainParams
) -> Iterator[TransferFiles]:
    """The checked sources, and the checked prior, downloaded for the time of the body.

    Raises
    DataError when a source or the prior cannot be used with the cohort (mcti/dataset/source_checks.py), or there is no
    such version.
    OperationalError when the registry does not respond.
    """
    _load.cache_clear()  # the folders may have changed since the last call in this process
    if not params.sources and params.prior is None:
        yield NO_FILES
        return
    target = CohortFacts.read(cohort, features, params.modalities)
    sources = [CohortFacts.read(one.cohort, one.features, params.modalities) for one in params.sources]
    checked = check_sources(target, sources, folds, params.architecture.covariates or ())
    with TemporaryDirectory(prefix="mcti-prior-") as scratch:
        prior = None if params.prior is None else _checked_prior(params.prior, target, Path(scratch))
        yield TransferFiles(checked, prior, params.architecture.covariates or ())


def _checked_prior(address: str, target: CohortFacts, scratch: Path) -> PriorFiles:
    files = fetch_prior(address, scratch)
    return replace(files, slides=check_prior(read_prior(files), target))


def load_transfer(files: TransferFiles, genes: Sequence[str], modalities: str) -> Transfer:
    """The sources and the prior in memory, read once per process; genes: of the target, in its order."""
    return _load(files, tuple(genes), modalities)


def load_cohorts(cohort: Location, data: Dataset, patients: Sequence[str]) -> Transfer:
    """The cohorts of a training part, by the column `cohort` of the table of patients."""
    table = tables.read_patients(cohort)
    names = dict(zip(table["patient_id"].astype(str), table["cohort"].astype(str), strict=True))
    return cohorts_of(data, names, patients)


@lru_cache(maxsize=1)
def _load(files: TransferFiles, genes: tuple[str, ...], modalities: str) -> Transfer:
    prior = None if files.prior is None else read_prior(files.prior)
    return Transfer(load_sources(files.sources, genes, modalities, files.covariates), prior)
