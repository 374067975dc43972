"""A cohort that meets the contract, and changes that break one expectation or stay just within its limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mcti.contracts.expression import Expression
from mcti.contracts.measurements import MARKERS, CohortData

PATIENTS, GENES = 160, 40


@dataclass(frozen=True)
class CheckedData(CohortData):
    """A cohort and its features: one row per slide with features, and the status of each slide."""

    bags: pd.DataFrame = field(default_factory=pd.DataFrame)
    slide_statuses: pd.DataFrame = field(default_factory=pd.DataFrame)


def good(seed: int = 0, patients: int = PATIENTS) -> CheckedData:
    """A cohort of two sexes, two subtypes and four sites with consistent markers, slides and features."""
    rng = np.random.default_rng(seed)
    ids = [f"P-{i:04d}" for i in range(patients)]
    female = rng.permutation(np.arange(patients) % 2)
    positive = rng.permutation(np.arange(patients) % 3 > 0).astype(int)
    event = rng.permutation(np.arange(patients) % 3 == 0).astype(int)
    table = pd.DataFrame(
        {
            "patient_id": ids,
            "cohort": "MADE",
            "site": [f"S{i % 4}" for i in range(patients)],
            "age": rng.integers(30, 80, patients).astype(float),
            "is_female": pd.array(female, dtype="Int8"),
            "subtype": np.where(positive == 1, "ER+", "ER-"),
            "time_months": np.where(event == 1, rng.uniform(1, 60, patients), rng.uniform(12, 120, patients)).round(3),
            "event": event.astype("int8"),
        }
    )
    genes = pd.DataFrame(rng.standard_normal((patients, GENES)), columns=[f"G{j}" for j in range(GENES)], index=ids)
    genes["XIST"] = 6 * female + rng.normal(0, 0.5, patients)
    genes["RPS4Y1"] = 6 * (1 - female) + rng.normal(0, 0.5, patients)
    genes["ESR1"] = 6 * positive + rng.normal(0, 0.5, patients)
    slides = pd.DataFrame(
        {
            "patient_id": ids,
            "slide_id": [f"{p}-1" for p in ids],
            "path": None,
            "mpp": 0.25,
            "stain": None,
            "md5": [f"{i:032x}" for i in range(patients)],
        }
    )
    bags = pd.DataFrame(
        {
            "slide_id": slides["slide_id"],
            "patient_id": ids,
            "tiles": rng.integers(20, 200, patients),
            "width": 44,
            "encoder": "hed44",
            "resolution": 0.5,
            "nan_rows": 0,
            "constant_rows": 0,
            "outside": 0,
            "contents": [f"{i:032x}" for i in range(patients)],
        }
    )
    statuses = slides[["slide_id", "patient_id"]].assign(status="OK")
    return with_genes(
        CheckedData(table, slides, Expression([], list), pd.DataFrame(), "log2", bags=bags, slide_statuses=statuses),
        genes,
    )


def genes_of(data: CheckedData) -> pd.DataFrame:
    """The expression (patients, genes) of a cohort."""
    ((ids, values),) = data.expression.blocks()
    return pd.DataFrame(values.astype(np.float64), index=ids, columns=data.expression.genes)


def with_genes(data: CheckedData, genes: pd.DataFrame) -> CheckedData:
    """The cohort with another expression table."""
    block = ([str(p) for p in genes.index], genes.to_numpy(np.float32))
    markers = genes[[gene for gene in MARKERS if gene in genes.columns]]
    return replace(data, expression=Expression(list(genes.columns), lambda: [block]), markers=markers)


def resample(data: CheckedData, seed: int) -> CheckedData:
    """Four fifths of the patients, drawn without replacement."""
    keep = set(data.patients["patient_id"].sample(frac=0.8, random_state=seed))
    kept = {
        name: getattr(data, name)[getattr(data, name)["patient_id"].isin(keep)].reset_index(drop=True)
        for name in ("patients", "slides", "bags", "slide_statuses")
    }
    return with_genes(replace(data, **kept), genes_of(data).loc[list(kept["patients"]["patient_id"])])


Change = Callable[[CheckedData, np.random.Generator], CheckedData]


@dataclass(frozen=True)
class Mutation:
    """A change that breaks one expectation, and a similar change that does not."""

    expectation: str
    broken: Change
    near: Change


def put(table: str, column: str, value: object, rows: int = 1) -> Change:
    """`value` in `rows` random rows of a table; a callable receives the number of the row."""

    def change(data: CheckedData, rng: np.random.Generator) -> CheckedData:
        frame = getattr(data, table).copy()
        chosen = rng.choice(len(frame), rows, replace=False)
        plain = isinstance(value, bool | int | float) and frame[column].dtype != "Int8"
        column_values = frame[column].astype(float if plain else object)
        for i in chosen:
            column_values.iloc[i] = value(i) if callable(value) else value
        return replace(data, **{table: frame.assign(**{column: column_values})})

    return change


def copy_cell(table: str, column: str, convert: Callable[[object], object] = lambda value: value) -> Change:
    """The value of one row (through `convert`) in another row."""

    def change(data: CheckedData, rng: np.random.Generator) -> CheckedData:
        frame = getattr(data, table).copy()
        a, b = rng.choice(len(frame), 2, replace=False)
        frame.loc[b, column] = convert(frame.loc[a, column])
        return replace(data, **{table: frame})

    return change


def whole(table: str, **columns: object) -> Change:
    """Whole columns of a table; a callable receives the table."""

    def change(data: CheckedData, rng: np.random.Generator) -> CheckedData:
        frame = getattr(data, table)
        values = {name: value(frame) if callable(value) else value for name, value in columns.items()}
        return replace(data, **{table: frame.assign(**values)})

    return change


def genes(edit: Callable[[pd.DataFrame, np.random.Generator, CheckedData], pd.DataFrame]) -> Change:
    """A change of the expression table."""
    return lambda data, rng: with_genes(data, edit(genes_of(data), rng, data))


def gene_cells(value: float, share: float) -> Change:
    """`value` in a share of the cells of one random gene (not a marker)."""

    def edit(frame: pd.DataFrame, rng: np.random.Generator, _: CheckedData) -> pd.DataFrame:
        rows = rng.choice(len(frame), max(int(share * len(frame)), 1), replace=False)
        frame.iloc[rows, int(rng.integers(GENES))] = value
        return frame

    return genes(edit)


def shift_site(sites: tuple[str, ...], sd: float) -> Change:
    """Each of `sites` moved by its own direction of `sd` standard deviations in every gene but the markers."""

    def edit(frame: pd.DataFrame, rng: np.random.Generator, data: CheckedData) -> pd.DataFrame:
        site_of_row = data.patients["site"].to_numpy()
        for site in sites:
            frame.iloc[site_of_row == site, :GENES] += sd * rng.choice([-1, 1], GENES)
        return frame

    return genes(edit)


def swap(marker: str, label: str, pairs: int) -> Change:
    """Marker values exchanged between `pairs` pairs of patients with different labels."""

    def edit(frame: pd.DataFrame, rng: np.random.Generator, data: CheckedData) -> pd.DataFrame:
        values = data.patients[label].to_numpy()
        classes = sorted(set(values))
        first = rng.choice(np.flatnonzero(values == classes[0]), pairs, replace=False)
        second = rng.choice(np.flatnonzero(values == classes[1]), pairs, replace=False)
        return _exchanged(frame, marker, first, second)

    return genes(edit)


def swap_within(marker: str, label: str) -> Change:
    """Marker values exchanged between two patients with the same label."""

    def edit(frame: pd.DataFrame, rng: np.random.Generator, data: CheckedData) -> pd.DataFrame:
        values = data.patients[label].to_numpy()
        first, second = rng.choice(np.flatnonzero(values == rng.choice(values)), 2, replace=False)
        return _exchanged(frame, marker, [first], [second])

    return genes(edit)


def _exchanged(frame: pd.DataFrame, marker: str, first: Sequence[int], second: Sequence[int]) -> pd.DataFrame:
    """The table with the marker values of the rows `first` and `second` exchanged; XIST stands for both sex markers."""
    names = ["XIST", "RPS4Y1"] if marker == "XIST" else [marker]
    columns = [frame.columns.get_loc(name) for name in names]
    first_values = frame.iloc[first, columns].to_numpy()
    frame.iloc[first, columns] = frame.iloc[second, columns].to_numpy()
    frame.iloc[second, columns] = first_values
    return frame
