"""The expression of a cohort folder, read block by block as often as the checks ask, with a word to whoever waits."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcti.cohort import tables
from mcti.progress import Progress
from mcti.storage import Location


@dataclass
class ExpressionBlocks:
    """Patient ids (n,) and expression (n, genes) of each block; called once for each pass over the table.

    passes    how many passes there will be at most, for the total that `progress` is told
    progress  called with (blocks read, blocks in all passes, what they are)
    """

    cohort: Location
    passes: int
    progress: Progress | None = None
    read: int = 0

    def __call__(self) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """One pass over the table."""
        for block in tables.expression_blocks(self.cohort):
            yield block
            self.read += 1
            if self.progress is not None:
                self.progress(self.read, self._total(), "blocks of expression")

    def close(self) -> None:
        """Say that all is read: the last pass is made only where profiles are alike."""
        if self.progress is not None:
            self.progress(self._total(), self._total(), "blocks of expression")

    def _total(self) -> int:
        return self.passes * tables.expression_groups(self.cohort)
