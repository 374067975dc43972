"""What the steps `search` and `train` learn from besides their cohort: the sources and the prior of `train`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mcti.dataset.sources import SourceFiles, Transfer, load_sources
from mcti.params import TrainParams
from mcti.registry.priors import PriorFiles, fetch_prior, read_prior


@dataclass(frozen=True)
class TransferFiles:
    """Sources and prior as plain values that are sent to a worker."""

    sources: tuple[SourceFiles, ...] = ()
    prior: PriorFiles | None = None


NO_FILES = TransferFiles()


@contextmanager
def transfer_files(params: TrainParams) -> Iterator[TransferFiles]:
    """The sources, and the prior downloaded for the time of the body.

    Raises
    DataError when there is no such version, or it has no reference profile.
    OperationalError when the registry does not respond.
    """
    _load.cache_clear()  # the folders may have changed since the last call in this process
    with TemporaryDirectory(prefix="mcti-prior-") as scratch:
        prior = None if params.prior is None else fetch_prior(params.prior, Path(scratch))
        yield TransferFiles(tuple(SourceFiles(one.cohort, one.features) for one in params.sources), prior)


def load_transfer(files: TransferFiles, genes: Sequence[str], modalities: str) -> Transfer:
    """The sources and the prior in memory, read once per process; genes: of the target, in its order."""
    return _load(files, tuple(genes), modalities)


@lru_cache(maxsize=1)
def _load(files: TransferFiles, genes: tuple[str, ...], modalities: str) -> Transfer:
    prior = None if files.prior is None else read_prior(files.prior)
    return Transfer(load_sources(files.sources, genes, modalities), prior)
