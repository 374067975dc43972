"""Checks of the sources and of the prior against the target cohort, before any training (docs/transfer.md)."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mcti.cohort import leakage, left_truncation, tables
from mcti.cohort.folds import Folds
from mcti.cohort.overlap import Members, overlaps
from mcti.dataset.loading import slides_with_features
from mcti.dataset.sources import SourceFiles
from mcti.errors import DataError
from mcti.model.compatibility import feature_difference
from mcti.model.prior import Prior
from mcti.params.data import MAX_FOLLOWUP_MONTHS
from mcti.redaction import hashed
from mcti.slides.features import open_file
from mcti.storage import Location, exists, join

MAX_SHIFTED_GENES = 0.5
"""With a larger share of shared genes whose median is outside the values of the target, the unit is another one."""
MAX_FOLLOWUP_RATIO = 10.0
"""With a larger ratio of the two medians of time_months, one of them is in another unit, such as days (30) or years."""
_LISTED = 10  # patients or sites that an error names
_TIME_UNIT = "ingest it with the unit of its times (ingest.time_unit)"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CohortFacts:
    """What the checks read of a cohort.

    address     of the cohort folder;  features  of its features; None: not read
    attributes  of the first feature file (encoder, weights …) and its `width`; empty without features
    genes       names of the genes in the order of the table; empty where training reads slides alone
    """

    address: str
    features: str | None
    info: tables.CohortInfo
    patients: pd.DataFrame
    slides: pd.DataFrame
    genes: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, cohort: Location, features: Location | None, modalities: str) -> "CohortFacts":
        """Read the tables and the attributes of one feature file; modalities: both | slides | genes.

        Raises DataError when a table is missing or malformed, there is no such folder of features, or no slide of the
        cohort has any.
        """
        address = str(cohort)
        if not exists(join(cohort, "cohort.json")):
            raise DataError("no cohort (cohort.json)", address, "name the folder that `mcti ingest` wrote")
        return cls(
            address=address,
            features=None if features is None or modalities == "genes" else str(features),
            info=tables.read_info(cohort),
            patients=tables.read_patients(cohort),
            slides=tables.read_slides(cohort),
            genes=() if modalities == "slides" else tuple(tables.gene_names(cohort)),
            attributes={} if features is None or modalities == "genes" else _attributes(cohort, features),
        )

    @property
    def where(self) -> str:
        """The name of the source in messages."""
        return f"source {self.info.name} ({self.address})"


def _attributes(cohort: Location, features: Location) -> dict[str, Any]:
    if not exists(features):
        raise DataError("no such folder of features", str(features), "check the path")
    names = next(iter(slides_with_features(cohort, features).values()), None)
    if names is None:
        hint = "extract the slides of this cohort, or set features to null for its genes alone"
        raise DataError("no slide of the cohort has features", str(features), hint)
    with open_file(join(features, f"{names[0]}.h5")) as file:
        return {**file.attributes, "level": file.level, "width": file.width}


def check_sources(
    target: CohortFacts, sources: Sequence[CohortFacts], folds: Folds, covariates: Sequence[str] = ()
) -> tuple[SourceFiles, ...]:
    """Check every source, and log a line about each: what is shared, and whether its slides are used.

    covariates  that the model reads; a source without one of them has no values of it

    Raises DataError for the first source that cannot be used: another endpoint, expression scale or unit, nothing
    shared, patients or slides of the target or of another source, sites of the target where its folds are by site.
    """
    for one, other in combinations(sources, 2):
        _check_apart(one, other)
    by_site = grouped_by_site(folds, target.patients)
    return tuple(_check(target, source, by_site, covariates) for source in sources)


def check_pool(cohorts: Sequence[CohortFacts], covariates: Sequence[str] = ()) -> tuple[SourceFiles, ...]:
    """Check that cohorts can be trained on together, against the first one with features; a line about each other one.

    The features of a cohort with another encoder are not used.

    Raises DataError as `check_sources`, for a cohort that cannot be used with the first one, and where only some of
    them have late entry: the pool has one table, in which a patient without it would count as observed from the origin.
    """
    left_truncation.check_same([(one.where, one.patients) for one in cohorts])
    for one, other in combinations(cohorts, 2):
        _check_apart(one, other)
    first = next((one for one in cohorts if one.attributes), cohorts[0])
    _check_outcome(first, first)
    first_files = SourceFiles(first.address, first.features)
    return tuple(first_files if one is first else _check(first, one, False, covariates) for one in cohorts)


def _check_apart(one: CohortFacts, other: CohortFacts) -> None:
    """Two sources must not have a patient in common."""
    first, second = (set(map(str, source.patients["patient_id"])) for source in (one, other))
    if first == second:
        raise DataError("the source is listed twice", f"{one.where} and {other.where}", "list each cohort once")
    if common := sorted(first & second):
        what = f"{len(common)} of its patients are also in {one.where}: {_listed(map(repr, common))}"
        raise DataError(what, other.where, "list each patient in one source only")


def grouped_by_site(folds: Folds, patients: pd.DataFrame) -> bool:
    """Whether no fold has patients of one site in both its parts, as with `split.scheme: site`.

    patients  (patients,) table of the target: patient_id, site
    """
    site = patients.set_index("patient_id")["site"].astype(str)
    parts = [(folds.train_patients(k), folds.test_patients(k)) for k in folds.numbers]
    return all(set(site.loc[train]).isdisjoint(site.loc[test]) for train, test in parts)


def _check(target: CohortFacts, source: CohortFacts, by_site: bool, covariates: Sequence[str]) -> SourceFiles:
    _check_outcome(target, source)
    _warn_of_other_definition(target, source)
    shared = [gene for gene in target.genes if gene in set(source.genes)]
    slides, reason = _usable_slides(target.attributes, source.attributes)
    _check_shared(target, shared, slides, source.where, reason)
    expressions = [tables.read_expression(one.address, shared) if shared else _no_genes() for one in (target, source)]
    ranges = {str(gene): (column.min(), column.max()) for gene, column in expressions[0].items()}
    check_unit(expressions[1].median(), ranges, source.where)  # before the profiles: in another unit they look similar
    _check_patients(target, source, expressions)
    if by_site:
        _check_sites(target, source)
    reason = reason or ("no features listed" if target.features and source.features is None else "")
    shares = f"{len(shared)} of {len(target.genes)} genes shared"
    absent = _absent(target, source, covariates)
    if target.genes and len(shared) < leakage.MIN_GENES:
        _warn_not_compared(source, len(shared))
    _describe(source, shares, "slides used" if slides else reason and f"genes only: {reason}", absent)
    return SourceFiles(source.address, source.features if slides else None)


def _no_genes() -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index([], name="patient_id"), dtype=np.float32)


def _check_outcome(target: CohortFacts, source: CohortFacts) -> None:
    for name in ("endpoint", "expression_scale"):
        expected, actual = getattr(target.info, name), getattr(source.info, name)
        check_equal(name, expected, actual, source.where)
    if not (source.patients["event"] == 1).any():
        raise DataError("no patient has the event", source.where, "remove the source, or wait for longer follow-up")
    longest = float(source.patients["time_months"].max())
    if longest > MAX_FOLLOWUP_MONTHS:
        what = f"time_months reaches {longest:.6g}, more than {MAX_FOLLOWUP_MONTHS:g}"
        raise DataError(what, source.where, _TIME_UNIT)
    expected, median = (float(one.patients["time_months"].median()) for one in (target, source))
    if min(expected, median) > 0 and max(expected / median, median / expected) > MAX_FOLLOWUP_RATIO:
        what = f"the median of time_months is {median:.4g}, that of the cohort {expected:.4g}: the unit is another one"
        raise DataError(what, source.where, _TIME_UNIT)


def _warn_of_other_definition(target: CohortFacts, source: CohortFacts) -> None:
    """Warn where one of the two has competing events, or late entry, and the other one does not.

    Each cohort has its own risk sets and hazards, so that both can be learned from; what differs is what the columns
    of the tables cannot state.
    """
    consequences = {
        "competing": "they count as censored; the event of both must be of the same cause",
        left_truncation.COLUMN: "without this column, all patients count as at risk from the origin",
    }
    titles = {"competing": "competing events", left_truncation.COLUMN: "late entry"}
    for column, title in titles.items():
        stated = [column in one.patients for one in (source, target)]
        if stated[0] != stated[1]:
            verbs = ("has", "the cohort has none") if stated[0] else ("has no", "the cohort has")
            text = "%s %s %s (column %s), %s: %s"
            _log.warning(text, source.where, verbs[0], title, column, verbs[1], consequences[column])


def check_equal(name: str, expected: str, actual: str, where: str) -> None:
    """Compare endpoint or expression scale of a source or prior with that of the target.

    Raises DataError when they differ
    """
    if expected != actual:
        title = name.replace("_", " ")
        hint = f"remove it from train.sources or train.prior, or ingest it with {title} {expected}"
        raise DataError(f"the {title} is {actual}, that of the cohort {expected}", where, hint)


def _usable_slides(target: Mapping[str, Any], source: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether features can be used with those of the target, and otherwise the reason; "" where none are listed."""
    if not target or not source:
        return False, ""
    difference = feature_difference(source, target, ("width",))
    if difference is None:
        return True, ""
    name, actual, expected = difference
    return False, f"its features have {name} {actual}, those of the cohort {expected}"


def _check_shared(target: CohortFacts, shared: Sequence[str], slides: bool, where: str, reason: str) -> None:
    if shared or (slides and not target.genes):
        return
    if target.genes:
        what = f"it shares none of the {len(target.genes)} genes of the cohort"
        what += f", and {reason}" if reason else ""
        hint = "use the gene names of the cohort, such as its symbols"
    else:
        what = f"no slides to learn from: {reason or 'no features'}"
        hint = "extract the slides of the source with the encoder of the cohort"
    raise DataError(what, where, hint)


def _check_sites(target: CohortFacts, source: CohortFacts) -> None:
    tested = set(target.patients["site"].astype(str))
    rows = source.patients["site"].astype(str)
    if common := sorted(tested & set(rows)):
        count = int(rows.isin(common).sum())
        what = f"{count} of its patients are of sites of the cohort, whose folds are by site: {_listed(common)}"
        hint = "remove these patients from the source, or rename the sites where they are other hospitals"
        raise DataError(what, source.where, hint)


def _check_patients(target: CohortFacts, source: CohortFacts, expressions: Sequence[pd.DataFrame]) -> None:
    one, other = (
        Members(tuple(map(str, cohort.patients["patient_id"])), cohort.slides, expression)
        for cohort, expression in zip((target, source), expressions, strict=True)
    )
    cases = overlaps(one, other)
    if not cases:
        return
    if len(cases) == len(one.patients) == len(other.patients):
        hint = "remove it from train.sources: the cohort is no source of itself"
        raise DataError("the source is the cohort itself: it has the same patients", source.where, hint)
    names = (f"{case.other!r} ({_evidence(case.one, case.other, case.evidence)})" for case in cases)
    what = f"{len(cases)} of its {len(other.patients)} patients are patients of the cohort: {_listed(names)}"
    raise DataError(what, source.where, "remove these patients from the source and ingest it again")


def _evidence(one: str, other: str, what: str) -> str:
    return what if one == other else f"{what} of {one!r}"


def _listed(names: Iterable[str]) -> str:
    texts = list(names)
    return ", ".join(texts[:_LISTED]) + (f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else "")


def check_unit(medians: pd.Series, ranges: Mapping[str, tuple[float, float]], where: str) -> None:
    """Compare expression values: the medians of one cohort with the ranges of the other one, by gene.

    Raises DataError when most medians are outside, as after another transform or in another unit
    """
    known = {str(name): float(value) for name, value in medians.items() if name in ranges and np.isfinite(value)}
    outside = [name for name, value in known.items() if not ranges[name][0] <= value <= ranges[name][1]]
    if known and len(outside) > MAX_SHIFTED_GENES * len(known):
        low, high = ranges[outside[0]]
        what = (
            f"the medians of {len(outside)} of {len(known)} genes are outside the values of the other cohort "
            f"({outside[0]}: {known[outside[0]]:.4g}, not {low:.4g} to {high:.4g})"
        )
        raise DataError(what, where, "another unit or scale of the expression: convert it to that of the cohort")


def _warn_not_compared(source: CohortFacts, shared: int) -> None:
    what = "%s: %d shared genes are too few (of %d) to recognise a patient of the cohort under another id"
    _log.warning(f"{what}; only ids and slides were compared", source.where, shared, leakage.MIN_GENES)


def _absent(target: CohortFacts, source: CohortFacts, covariates: Sequence[str]) -> list[str]:
    """The covariates that a source lacks, or has as text where they are numbers in the target, or the reverse."""
    expected, columns = (tables.covariate_columns(one.patients) for one in (target, source))
    return [
        name for name in covariates if name not in columns or columns[name] is not expected.get(name, columns[name])
    ]


def _describe(source: CohortFacts, genes: str, slides: str, absent: Sequence[str]) -> None:
    parts = [f"{len(source.patients)} patients, {int(source.patients['event'].sum())} events"]
    parts += [text for text in (genes, slides) if text]
    parts += [f"no values of {', '.join(absent)}"] if absent else []
    _log.info("%s: %s", source.where, "; ".join(parts))


def check_prior(prior: Prior, target: CohortFacts) -> bool:
    """Check a prior against the target; whether its weights on slides apply (the same encoder).

    Raises DataError when it was trained on patients of the target, or endpoint, expression scale or unit differ, or it
    shares no gene and no features with the target.
    """
    where = f"prior {prior.name}, version {prior.version}"
    for name, expected in (("endpoint", target.info.endpoint), ("expression_scale", target.info.expression_scale)):
        check_equal(name, expected, str(prior.cohort.get(name, expected)), where)
    common = sorted(str(name) for name in target.patients["patient_id"] if hashed(str(name)) in prior.patients)
    if common:
        what = f"it was trained on {len(common)} patients of the cohort: {_listed(map(repr, common))}"
        raise DataError(what, where, "name a model that was trained without them")
    config = next(iter(prior.members.values())).config
    shared = [gene for gene in target.genes if gene in set(config.genes)]
    attributes = {**prior.features, "width": config.features} if "slides" in config.modalities else {}
    slides, reason = _usable_slides(target.attributes, attributes)
    _check_shared(target, shared, slides, where, reason)
    if shared:
        _check_prior_unit(prior, target, shared, where)
    text = f"; genes only: {reason}" if reason else ""
    _log.info("%s: %d of %d genes shared%s", where, len(shared), len(target.genes), text)
    return slides


def _check_prior_unit(prior: Prior, target: CohortFacts, shared: list[str], where: str) -> None:
    profile = max(prior.profiles.values(), key=lambda profile: profile.patients)
    grids = {name: column.quantile_grid for name, column in profile.families.get("genes", {}).items()}
    ranges = {name: (grid[0], grid[-1]) for name, grid in grids.items() if len(grid) > 1}
    check_unit(tables.read_expression(target.address, shared).median(), ranges, where)
