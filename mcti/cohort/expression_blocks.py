"""The expression of a cohort folder in blocks of rows, for checks that read it several times, with progress."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcti.cohort import tables
from mcti.progress import Progress
from mcti.storage import Location


@dataclass
class ExpressionBlocks:
    """Patient ids (n,) and expression (n, genes) of each block; each call is one pass over the table.

    passes          maximum number of passes, for the total of the progress
    progress        called with (blocks read, blocks of all passes, unit)
    blocks_read     blocks read in all passes until now
    """

    cohort: Location
    passes: int
    progress: Progress | None = None
    blocks_read: int = 0

    def __call__(self) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """One pass over the table."""
        for block in tables.expression_blocks(self.cohort):
            yield block
            self.blocks_read += 1
            if self.progress is not None:
                self.progress(self.blocks_read, self._total(), "blocks of expression")

    def close(self) -> None:
        """Report the maximum as reached: the last pass is skipped where no two profiles are similar."""
        if self.progress is not None:
            self.progress(self._total(), self._total(), "blocks of expression")

    def _total(self) -> int:
        return self.passes * tables.expression_groups(self.cohort)
