"""A good cohort as the contract sees it, and one mutation for each expectation with its near miss."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mcti.contracts.expression import Expression
from mcti.contracts.measurements import MARKERS, CohortData

PATIENTS, GENES = 160, 40


def good(seed: int = 0, patients: int = PATIENTS) -> CohortData:
    """A cohort of two sexes, two subtypes and four sites with markers, slides and features that fit."""
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
        CohortData(table, slides, Expression([], list), pd.DataFrame(), "log2", bags=bags, slide_statuses=statuses),
        genes,
    )


def genes_of(evidence: CohortData) -> pd.DataFrame:
    """The expression (patients, genes) of a made cohort."""
    ((ids, values),) = evidence.expression.blocks()
    return pd.DataFrame(values.astype(np.float64), index=ids, columns=evidence.expression.genes)


def with_genes(evidence: CohortData, genes: pd.DataFrame) -> CohortData:
    """The cohort with another expression table."""
    block = ([str(p) for p in genes.index], genes.to_numpy(np.float32))
    markers = genes[[gene for gene in MARKERS if gene in genes.columns]]
    return replace(evidence, expression=Expression(list(genes.columns), lambda: [block]), markers=markers)


def resample(evidence: CohortData, seed: int) -> CohortData:
    """Four fifths of the patients, drawn without return."""
    keep = set(evidence.patients["patient_id"].sample(frac=0.8, random_state=seed))
    kept = {
        name: getattr(evidence, name)[getattr(evidence, name)["patient_id"].isin(keep)].reset_index(drop=True)
        for name in ("patients", "slides", "bags", "slide_statuses")
    }
    return with_genes(replace(evidence, **kept), genes_of(evidence).loc[list(kept["patients"]["patient_id"])])


Change = Callable[[CohortData, np.random.Generator], CohortData]


@dataclass(frozen=True)
class Mutation:
    """What breaks one expectation, and the nearest harmless change."""

    expectation: str
    broken: Change
    near: Change


def put(table: str, column: str, value: object, rows: int = 1) -> Change:
    """`value` into `rows` random rows of a table; a callable gets the row's number."""

    def change(evidence: CohortData, rng: np.random.Generator) -> CohortData:
        frame = getattr(evidence, table).copy()
        chosen = rng.choice(len(frame), rows, replace=False)
        plain = isinstance(value, bool | int | float) and frame[column].dtype != "Int8"
        column_values = frame[column].astype(float if plain else object)
        for i in chosen:
            column_values.iloc[i] = value(i) if callable(value) else value
        return replace(evidence, **{table: frame.assign(**{column: column_values})})

    return change


def copy_cell(table: str, column: str, of: Callable[[object], object] = lambda value: value) -> Change:
    """The value of one row (through `of`) into another row."""

    def change(evidence: CohortData, rng: np.random.Generator) -> CohortData:
        frame = getattr(evidence, table).copy()
        a, b = rng.choice(len(frame), 2, replace=False)
        frame.loc[b, column] = of(frame.loc[a, column])
        return replace(evidence, **{table: frame})

    return change


def whole(table: str, **columns: object) -> Change:
    """Whole columns of a table; a callable gets the table."""

    def change(evidence: CohortData, rng: np.random.Generator) -> CohortData:
        frame = getattr(evidence, table)
        made = {name: value(frame) if callable(value) else value for name, value in columns.items()}
        return replace(evidence, **{table: frame.assign(**made)})

    return change


def genes(of: Callable[[pd.DataFrame, np.random.Generator, CohortData], pd.DataFrame]) -> Change:
    """A change of the expression table."""
    return lambda evidence, rng: with_genes(evidence, of(genes_of(evidence), rng, evidence))


def gene_cells(value: float, share: float) -> Change:
    """`value` into a share of the cells of one random gene (not a marker)."""

    def of(frame: pd.DataFrame, rng: np.random.Generator, _: CohortData) -> pd.DataFrame:
        rows = rng.choice(len(frame), max(int(share * len(frame)), 1), replace=False)
        frame.iloc[rows, int(rng.integers(GENES))] = value
        return frame

    return genes(of)


def shift_site(sites: tuple[str, ...], sd: float) -> Change:
    """Each of `sites` moved by its own direction of `sd` standard deviations in every gene but the markers."""

    def of(frame: pd.DataFrame, rng: np.random.Generator, evidence: CohortData) -> pd.DataFrame:
        place = evidence.patients["site"].to_numpy()
        for site in sites:
            frame.iloc[place == site, :GENES] += sd * rng.choice([-1, 1], GENES)
        return frame

    return genes(of)


def swap(marker: str, label: str, pairs: int) -> Change:
    """Marker values exchanged between `pairs` pairs of patients of unlike label."""

    def of(frame: pd.DataFrame, rng: np.random.Generator, evidence: CohortData) -> pd.DataFrame:
        values = evidence.patients[label].to_numpy()
        kinds = sorted(set(values))
        names = ["XIST", "RPS4Y1"] if marker == "XIST" else [marker]
        columns = [frame.columns.get_loc(name) for name in names]
        first = rng.choice(np.flatnonzero(values == kinds[0]), pairs, replace=False)
        second = rng.choice(np.flatnonzero(values == kinds[1]), pairs, replace=False)
        held = frame.iloc[first, columns].to_numpy()
        frame.iloc[first, columns] = frame.iloc[second, columns].to_numpy()
        frame.iloc[second, columns] = held
        return frame

    return genes(of)
