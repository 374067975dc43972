"""The patients of one fold: training part and test part."""

from dataclasses import dataclass

REFIT = -1
"""The fold number of a model trained on all patients: no test patient is left."""


@dataclass(frozen=True)
class FoldSplit:
    """Patient ids of the training part and of the test part, and the fold number (REFIT: the test part is empty)."""

    fold: int
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the fold's folder: fold_<k>, or refit."""
        return "refit" if self.fold == REFIT else f"fold_{self.fold}"
