"""Tables and features of a cohort into the bags that training and prediction read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from mcti.cohort import tables
from mcti.dataset.bags import PatientBag
from mcti.errors import DataError, did_you_mean
from mcti.storage import Location, exists, join, local_copy, translating_os_errors
from mcti.training.folds import Dataset


@dataclass(frozen=True)
class Tables:
    """The tables of a cohort, read once; `bags` takes some of its patients at a time, whose features it then reads.

    patients    sorted by patient_id;  slides  with features, of each patient;  clinical  names of numeric covariates
    """

    cohort: Location
    features: Location | None
    patients: pd.DataFrame
    expression: pd.DataFrame
    slides: dict[str, list[str]]
    clinical: tuple[str, ...]

    @classmethod
    def read(cls, cohort: Location, features: Location | None, genes: list[str] | None = None) -> "Tables":
        """As `gather`."""
        patients = tables.read_patients(cohort).sort_values("patient_id")
        wanted = ["age", "is_female", *tables.covariates(patients)]
        clinical = tuple(name for name in wanted if pd.api.types.is_numeric_dtype(patients[name]))
        expression = tables.read_expression(cohort, genes)
        return cls(cohort, features, patients, expression, slides_of(cohort, features), clinical)

    def bags(self, chosen: Sequence[str] = ()) -> Dataset:
        """As `gather`."""
        made: dict[str, set[Any]] = {}
        bags = {}
        for row in self._rows(chosen):
            patient = str(row["patient_id"])
            patches, quality = bag_of(self.features, self.slides.get(patient, []), made)
            bags[patient] = PatientBag(
                patient_id=patient,
                patches=patches,
                genes=_genes(self.expression, patient),
                time_months=float(row["time_months"]),
                event=bool(row["event"]),
                subtype=self.classes.index(str(row["subtype"])),
                covariates={name: _number(row[name]) for name in self.clinical},
                quality=quality,
            )
        return Dataset(bags, self.genes, self.classes, one_way(made, self.features), self.cohort_facts)

    @cached_property
    def cohort_facts(self) -> dict[str, str]:
        """Name and endpoint of the cohort, as model.json keeps them."""
        info = tables.read_info(self.cohort)
        return {"name": info.name, "endpoint": info.endpoint}

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """The columns of the expression, in their order; read once, since a prediction asks patient by patient."""
        return tuple(map(str, self.expression.columns))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The subtypes of the cohort, sorted."""
        return tuple(sorted(str(name) for name in self.patients["subtype"].unique()))

    @cached_property
    def _by_id(self) -> dict[str, dict[str, Any]]:
        rows: list[dict[str, Any]] = self.patients.to_dict("records")  # type: ignore[assignment]
        return {str(row["patient_id"]): row for row in rows}

    def _rows(self, chosen: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of these patients, in the order of the table."""
        if not chosen:
            return list(self._by_id.values())
        for patient in chosen:
            if patient not in self._by_id:
                hint = did_you_mean(patient, sorted(self._by_id))
                raise DataError(f"there is no patient {patient!r}", str(self.cohort), hint)
        return [self._by_id[patient] for patient in sorted(set(chosen))]


def gather(
    cohort: Location, features: Location | None, genes: list[str] | None = None, chosen: Sequence[str] = ()
) -> Dataset:
    """All patients of a cohort with their genes and the features of all their slides.

    Reads   cohort/{patients,expression,slides}.parquet, features/<slide_id>.h5 (None: nobody has slides)
    genes   only these, in this order; None: all of the table
    chosen  only these patients; none: all of the cohort
    Covariates are age, is_female and the cohort's own numeric ones, None where missing.
    A patient none of whose slides has features has no bag; one without a row in the expression has no genes.
    Raises  DataError when features are asked for and no patient has any, when a file is not a features file, and for a
            chosen patient who is not in the cohort
    """
    data = Tables.read(cohort, features, genes).bags(chosen)
    if features is not None and not chosen and all(bag.patches is None for bag in data.bags.values()):
        raise DataError("no slide of the cohort has features", str(features), "extract the slides of this cohort")
    return data


def slides_of(cohort: Location, features: Location | None) -> dict[str, list[str]]:
    """Slides with features of each patient, sorted by slide id: the order in which their tiles fill the bag."""
    if features is None:
        return {}
    table = tables.read_slides(cohort).sort_values(["patient_id", "slide_id"])
    found: dict[str, list[str]] = {}
    for patient, slide in zip(table["patient_id"], table["slide_id"], strict=True):
        if exists(join(features, f"{slide}.h5")):
            found.setdefault(str(patient), []).append(str(slide))
    return found


def _genes(expression: pd.DataFrame, patient: str) -> torch.Tensor | None:
    if patient not in expression.index:
        return None
    return torch.from_numpy(np.ascontiguousarray(expression.loc[patient].to_numpy(dtype=np.float32, copy=True)))


def _number(value: object) -> float | None:
    return None if pd.isna(value) else float(value)  # type: ignore[call-overload, arg-type]


def bag_of(
    features: Location | None, slides: list[str], made: dict[str, set[Any]]
) -> tuple[torch.Tensor | None, dict[str, float]]:
    """(N, D) the features of all patches of these slides, in their order (None without a slide), and their quality.

    made     gets how the files say that they were made, {attribute: values}
    quality  tissue: mean share of tissue in a tile; blurred, failed: share of the tiles left out as out of focus, as
             unreadable. Empty for files of other tools, which do not count them.
    """
    if features is None or not slides:
        return None, {}
    found = [_read(join(features, f"{slide}.h5"), made) for slide in slides]
    bags = [patches for patches, _ in found]
    return bags[0] if len(bags) == 1 else torch.cat(bags), _quality([counts for _, counts in found])


def _quality(slides: list[dict[str, float]]) -> dict[str, float]:
    """Of all slides of a patient together; nothing where one of them was not counted."""
    if not all(slides):
        return {}
    kept, tiles = (sum(counts[name] for counts in slides) for name in ("kept", "candidate"))
    quality = {name: sum(counts[name] for counts in slides) / tiles for name in ("blurred", "failed")}
    return {"tissue": sum(counts["tissue"] for counts in slides) / kept, **quality}


_MADE = ("encoder", "encoder_weights_sha256", "encoder_preprocessing", "target_mpp", "tissue_method")
"""Attributes of a features file that tell how it was made; files of other tools may lack some."""


def one_way(made: dict[str, set[Any]], features: Location | None) -> dict[str, Any]:
    """How all features were made.

    Raises
        DataError: two encoders: their numbers mean different things, even where the widths agree.
    """
    for name in ("encoder", "encoder_weights_sha256"):
        if len(values := sorted(map(str, made.get(name, ())))) > 1:
            raise DataError(f"features of two encoders ({name} {values[0]} and {values[1]})", str(features),
                            "extract all slides with one encoder")  # fmt: skip
    return {name: min(values) if len(values) == 1 else sorted(values) for name, values in sorted(made.items())}


def _read(where: str, made: dict[str, set[Any]]) -> tuple[torch.Tensor, dict[str, float]]:
    import h5py

    with local_copy(where) as path, translating_os_errors(where), h5py.File(path, "r") as file:
        if "features" not in file or file["features"].ndim != 2:
            raise DataError("no table `features` of patches and their values", where, "extract the slide again")
        for name in (name for name in _MADE if name in file.attrs):
            value = file.attrs[name]
            made.setdefault(name, set()).add(value.item() if isinstance(value, np.generic) else str(value))
        return torch.from_numpy(file["features"][:].astype(np.float32, copy=False)), _counts(file)


def _counts(file: Any) -> dict[str, float]:
    """Tiles that were candidates, kept, blurred and failed, and the summed tissue of those kept; empty: not counted."""
    tissue, names = file.get("tissue_fraction"), ("candidate", "kept", "blurred", "failed")
    if tissue is None or not len(tissue) or len(tissue) != len(file["features"]):
        return {}
    if not all(f"tiles_{name}" in file.attrs for name in names):
        return {}
    return {name: float(file.attrs[f"tiles_{name}"]) for name in names} | {"tissue": float(tissue[:].sum(dtype=float))}


def places(features: Location, slides: Sequence[str]) -> list[tuple[str, int, np.ndarray | None]]:
    """(slide_id, tiles, coords (tiles, 2) level-0 px or None where the file has none) of each slide, in their order."""
    import h5py

    found: list[tuple[str, int, np.ndarray | None]] = []
    for slide in slides:
        where = join(features, f"{slide}.h5")
        with local_copy(where) as path, translating_os_errors(where), h5py.File(path, "r") as file:
            tiles = len(file["features"])
            here = "coords" in file and file["coords"].shape == (tiles, 2)
            found.append((slide, tiles, file["coords"][:].astype(np.int64) if here else None))
    return found
