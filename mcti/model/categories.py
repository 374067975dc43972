"""Categorical covariates such as stage and grade: levels of the training part, and their columns.

Levels are learned from the training part of a fold. A value that is missing, or a level without a training patient,
has no column: all columns are missing and become the training mean, and the indicator of a missing value is 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field
from pydantic.dataclasses import dataclass

from mcti.errors import DataError

CovariateValue = float | str | None
"""A number, the level of a categorical covariate, or None (or NaN): missing."""
MAX_LEVELS = 30
"""A text column with more levels is a free text: each level would have a handful of patients."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """A categorical covariate.

    levels   of the training part; an ordered one from the lowest to the highest, else alphabetically
    ordered  an ordered scale, as stage; false: nominal
    """

    name: str
    levels: tuple[str, ...] = Field(strict=False, min_length=1)
    ordered: bool = False

    @classmethod
    def learn(cls, name: str, values: Iterable[CovariateValue], order: Sequence[str], where: str) -> "Category":
        """The levels that occur among the values of a training part; order: all levels of an ordered scale.

        Raises DataError when no value is known, there are too many levels, or one is not in the order
        """
        known = {value for value in values if isinstance(value, str)}
        if not known:
            hint = "remove it from train.architecture.covariates"
            raise DataError(f"no patient has a value of covariate {name!r}", where, hint)
        if len(known) > MAX_LEVELS:
            what = f"covariate {name!r} has {len(known)} levels, more than {MAX_LEVELS}"
            raise DataError(what, where, f"merge levels with ingest.category_values: {{{name}: {{VALUE: LEVEL}}}}")
        if order and (foreign := sorted(known - set(order))):
            what = f"covariate {name!r} has the level {foreign[0]!r}, which is not among the ordered levels"
            raise DataError(what, where, "run `mcti ingest` again with this level in ingest.ordered_levels")
        levels = [level for level in order if level in known] if order else sorted(known)
        return cls(name=name, levels=tuple(levels), ordered=bool(order))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: `grade=high` of each nominal level, `stage>=II` of each ordered one above the lowest.

        Two levels need one column, and so does a single one.
        """
        relation = ">=" if self.ordered else "="
        return tuple(f"{self.name}{relation}{level}" for level in self._encoded)

    def encode(self, value: CovariateValue) -> tuple[float, ...]:
        """1 or 0 in each column: the level itself (nominal), this level or a higher one (ordered); NaN: unknown."""
        if value not in self.levels:
            return (math.nan,) * len(self._encoded)
        rank = self.levels.index(str(value))
        ranks = [self.levels.index(level) for level in self._encoded]
        return tuple(float(rank >= number if self.ordered else rank == number) for number in ranks)

    def describe(self) -> str:
        """The levels for people: `stage (I < II < III)`, `histology (ductal, lobular)`."""
        return f"{self.name} ({(' < ' if self.ordered else ', ').join(self.levels)})"

    @property
    def _encoded(self) -> tuple[str, ...]:
        if len(self.levels) == 1:
            return self.levels
        return self.levels[1:] if self.ordered or len(self.levels) == 2 else self.levels


ClinicalInput = str | Category
"""A covariate that a model reads: the name of a numeric one, or a categorical one with its levels."""


def input_names(inputs: Sequence[ClinicalInput]) -> tuple[str, ...]:
    """The names of the covariates, one each."""
    return tuple(one.name if isinstance(one, Category) else one for one in inputs)


def input_columns(inputs: Sequence[ClinicalInput]) -> tuple[str, ...]:
    """The names of the columns of `encoded_row`."""
    return tuple(name for one in inputs for name in (one.columns if isinstance(one, Category) else (one,)))


def indicator_positions(inputs: Sequence[ClinicalInput]) -> tuple[int, ...]:
    """The first column of each covariate: it decides whether the covariate is missing."""
    sizes = [len(one.columns) if isinstance(one, Category) else 1 for one in inputs]
    return tuple(sum(sizes[:number]) for number in range(len(sizes)))


def encoded_row(values: Mapping[str, CovariateValue], inputs: Sequence[ClinicalInput], where: str) -> list[float]:
    """The values (V,) of one patient in the order of `input_columns`, NaN where missing or unseen in training.

    Raises DataError when a number is a text, or a level a number
    """
    row: list[float] = []
    for one in inputs:
        if isinstance(one, Category):
            row += one.encode(_level(one, values[one.name], where))
        else:
            row.append(_number(one, values[one], where))
    return row


def level_columns(
    patients: Sequence[Mapping[str, CovariateValue]], inputs: Sequence[ClinicalInput]
) -> dict[str, list[float]]:
    """The columns (n values each) of the categorical covariates among `inputs`: 1, 0, or NaN where missing or unseen.

    patients  n patients: level by name
    """
    columns: dict[str, list[float]] = {}
    for one in (one for one in inputs if isinstance(one, Category)):
        rows = [one.encode(patient.get(one.name)) for patient in patients]
        columns |= {name: [row[number] for row in rows] for number, name in enumerate(one.columns)}
    return columns


def _level(category: Category, value: CovariateValue, where: str) -> CovariateValue:
    if isinstance(value, str) or value is None or math.isnan(value):
        return value
    hint = f"give one of {', '.join(category.levels)} as text"
    raise DataError(f"covariate {category.name!r} is the number {value:g}, not a level", where, hint)


def _number(name: str, value: CovariateValue, where: str) -> float:
    if isinstance(value, str):
        raise DataError(f"covariate {name!r} is the text {value!r}, not a number", where, "give a number, or null")
    return math.nan if value is None else float(value)
