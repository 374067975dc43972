"""explain: what the risk of single patients consists of, by modality, token, gene and tile."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mcti import redaction, storage
from mcti.cohort import tables
from mcti.dataset import new_patients as new_patient_folder
from mcti.dataset.bags import Dataset, PatientBag
from mcti.dataset.loading import load_dataset
from mcti.errors import DataError, MctiError, UsageError, did_you_mean
from mcti.evaluation.attribution_shares import shares as attribution_shares
from mcti.explanation import clusters, drawing, explanation_html
from mcti.explanation import gene_sets as gene_set_files
from mcti.model.attribution import Attribution, attribute
from mcti.model.names import PART_NAMES
from mcti.params import ExplainParams, ExtractParams
from mcti.progress import Progress
from mcti.registry import ensemble_files, models
from mcti.registry.ensemble import Ensemble
from mcti.registry.pipeline_run import tracked
from mcti.steps.extract import extract
from mcti.steps.predict.step import expression_by_gene
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class ExplainResult(StepResult):
    """How many patients; the largest completeness gap, and as a share of that patient's risk less baseline."""

    patients: int
    steps: int
    largest_gap: float
    largest_gap_share: float
    gene_sets: int
    slides_without_coordinates: int
    model_digest: str


@dataclass(frozen=True)
class _Case:
    """One patient: the attribution by each eligible model, and the clusters of their patches."""

    bag: PatientBag
    found: Mapping[str, Attribution]
    members: NDArray[np.int64]

    def mean(self, name: str) -> NDArray[np.float64]:
        """A part of the attributions averaged over the models, as the risk of the ensemble is."""
        values = [np.asarray(getattr(one, name), dtype=np.float64) for one in self.found.values()]
        return np.asarray(np.mean(values, axis=0))

    @property
    def numbers(self) -> dict[str, float]:
        """risk, baseline, part of each modality, gap."""
        modalities = [one.modalities for one in self.found.values()]
        parts = {name: float(np.mean([part[name] for part in modalities])) for name in modalities[0]}
        ends = {name: float(self.mean(name)) for name in ("risk", "baseline")}
        return ends | parts | {"gap": float(self.mean("gap"))}


@dataclass(frozen=True)
class _Source:
    """Patients, and the name and notice of their cohort as the reports show them."""

    data: Dataset
    name: str
    notice: str


@logged
@tracked
def explain(
    model: str,
    cohort: Location | None,
    features: Location | None,
    params: ExplainParams,
    out: Path,
    *,
    new_patients: Location | None = None,
    patient_ids: Sequence[str] = (),
    extraction: ExtractParams = ExtractParams(),  # noqa: B008  (frozen)
    gene_sets: Location | None = None,
    progress: Progress = lambda *_: None,
) -> ExplainResult:
    """Explain the risk of patients by the same models that `predict` uses for them.

    Reads   the model (models:/NAME@ALIAS, or a folder of folds); either cohort with features/<slide_id>.h5 (None: no
            slides are used), or the folder `new_patients` of patients without an outcome, as `predict` reads it;
            patient_ids: only these patients, empty: all of them; gene_sets: a GMT file
    Writes  out/{contributions,tokens,gene_groups,gene_sets,plans}.csv, genes.parquet, tiles/<slide_id>.csv (x, y,
            score, cluster, as `mcti heatmap` reads it), patients/<patient_id>.html, result.json: all or nothing; with
            `--redact` hashes in place of the ids, in slides' names too
    Raises  DataError naming the patient whose genes or slides do not fit the model, an unknown patient, a GMT file
            without a usable set
    """
    if (cohort is None) == (new_patients is None):
        raise UsageError("exactly one source of patients is needed", "--cohort, --new-patients", "set one of the two")
    with TemporaryDirectory(prefix="mcti-explain-") as scratch:
        loaded = ensemble_files.load(models.fetch(model, Path(scratch, "model")))
        given = {} if gene_sets is None else gene_set_files.read_gmt(gene_sets, loaded.genes)
        if new_patients is not None:
            folder = Path(new_patients)
            features = new_patient_folder.feature_folder(
                folder,
                Path(scratch, "features"),
                lambda slides, out: extract(slides, extraction, out, progress=progress),
            )
            source = _new_patients_source(folder, features, patient_ids)
        else:
            source = _cohort_source(str(cohort), features, patient_ids)
        loaded.check_features(source.data.provenance, str(features))
        bags = source.data.bags
        with storage.replacing(out) as draft:
            for name in ("", "tiles", "patients"):
                (draft / name).mkdir()
            written = _Writer(draft, loaded, given, params, source)
            for done, patient in enumerate(sorted(bags), start=1):
                written.add(_case(loaded, bags[patient], source.data.genes, params))
                progress(done, len(bags), "patients")
            return written.close().save(draft)


def _cohort_source(cohort: Location, features: Location | None, chosen: Sequence[str]) -> _Source:
    info = tables.read_info(cohort)
    return _Source(load_dataset(cohort, features, patients=chosen), info.name, info.notice)


def _new_patients_source(folder: Path, features: Location | None, chosen: Sequence[str]) -> _Source:
    known = new_patient_folder.patient_ids(folder)
    for patient in chosen:
        if patient not in known:
            raise DataError(f"patient {patient!r} does not exist", str(folder), did_you_mean(patient, known))
    names = sorted(chosen) or known
    table = new_patient_folder.NewPatientTables.read(folder, features)
    return _Source(table.load(names), folder.name, "")


def _case(
    loaded: Ensemble,
    bag: PatientBag,
    genes: tuple[str, ...],
    params: ExplainParams,
) -> _Case:
    try:
        vector = None if bag.genes is None else loaded.gene_vector(bag.patient_id, expression_by_gene(bag, genes) or {})
        found = {
            name: attribute(loaded.members[name], bag.patches, vector, bag.covariates, steps=params.steps)
            for name in loaded.eligible_members(bag.patient_id)
        }
    except MctiError as error:
        raise error.with_patient(bag.patient_id) from error
    members = np.zeros(0, np.int64)
    if bag.patches is not None:
        first = next(iter(found))
        standard = loaded.members[first].fitted.features(bag.patches.float()).numpy()
        members = clusters.clusters(standard, params.clusters, params.seed)
    return _Case(bag, found, members)


_SHOWN = ("critical_patches", "transport_plan")
"""Parts whose share of the attribution a page states."""


class _Writer:
    """The tables, one row after the other, and a page a patient."""

    _HEADS: Mapping[str, tuple[str, ...]] = {
        "contributions": (
            *("patient_id", "model", "risk", "baseline", "slides", "genes", "clinical", "gap", "gap_share"),
        ),
        "tokens": ("patient_id", "model", "token", "contribution", "slide_id", "x", "y"),
        "gene_groups": ("patient_id", "model", "group", "rank", "gene", "weight"),
        "gene_sets": (
            *("patient_id", "model", "group", "gene_set", "overlap", "set_genes", "group_genes", "universe"),
            *("expected", "p", "q", "genes"),
        ),
        "plans": ("patient_id", "model", "cluster", "patches", "group", "mass"),
    }

    def __init__(
        self,
        draft: Path,
        loaded: Ensemble,
        sets: Mapping[str, frozenset[str]],
        params: ExplainParams,
        source: _Source,
    ) -> None:
        self.draft, self.loaded, self.sets, self.params, self.source = draft, loaded, sets, params, source
        self.streams: dict[str, TextIO] = {}
        self.rows: dict[str, Any] = {}
        for name, head in self._HEADS.items():
            self.streams[name] = (draft / f"{name}.csv").open("w", encoding="utf-8", newline="")
            self.rows[name] = csv.writer(self.streams[name], lineterminator="\n")
            self.rows[name].writerow(head)
        self.genes: dict[str, NDArray[np.float32]] = {}
        self.gaps: list[tuple[float, float]] = []
        self.blind = 0

    def add(self, case: _Case) -> None:
        """One patient into all files."""
        patient, numbers = redaction.redact_id(case.bag.patient_id), case.numbers
        way = abs(numbers["risk"] - numbers["baseline"])
        self.gaps.append((abs(numbers["gap"]), abs(numbers["gap"]) / way if way else 0.0))
        self.rows["contributions"].writerow([patient, "+".join(case.found), *numbers.values(), self.gaps[-1][1]])
        if case.bag.genes is not None:
            self.genes[patient] = case.mean("genes").astype(np.float32)
        said = [self._member(case, name, found) for name, found in case.found.items()]
        maps = self._tiles(case)
        parts = list(zip(self.loaded.genes, self.genes[patient].tolist(), strict=True)) if patient in self.genes else []
        text = explanation_html.render(patient, self.source.name, self.source.notice, numbers, parts, said, maps)
        (self.draft / "patients" / f"{patient}.html").write_text(text, encoding="utf-8")

    def close(self) -> ExplainResult:
        """Finish the files; the result."""
        import pandas as pd

        for stream in self.streams.values():
            stream.close()
        table = pd.DataFrame.from_dict(self.genes, orient="index", columns=list(self.loaded.genes))
        table.rename_axis("patient_id").to_parquet(self.draft / "genes.parquet")
        return ExplainResult(
            patients=len(self.gaps),
            steps=self.params.steps,
            largest_gap=max(gap for gap, _ in self.gaps),
            largest_gap_share=max(share for _, share in self.gaps),
            gene_sets=len(self.sets),
            slides_without_coordinates=self.blind,
            model_digest=self.loaded.digest,
        )

    def _member(self, case: _Case, name: str, found: Attribution) -> explanation_html.Member:
        patient = redaction.redact_id(case.bag.patient_id)
        ranked = sorted(found.tokens.items(), key=lambda token: -abs(token[1]))
        for token, part in found.tokens.items():
            self.rows["tokens"].writerow([patient, name, token, part, *_place(case, found, token)])
        groups = self._groups(case, name, found) if case.bag.genes is not None else []
        plan: list[list[float]] = []
        counts = np.bincount(case.members).tolist() if len(case.members) else []
        if counts and groups:
            mass = clusters.cluster_plan(case.members, found.shares.numpy(), found.plan.numpy())
            plan = mass.tolist()
            for cluster, row in enumerate(plan):
                for group, value in enumerate(row):
                    self.rows["plans"].writerow([patient, name, cluster, counts[cluster], f"gene_{group}", value])
        told = attribution_shares([found.tokens])
        shares = {} if told is None else {PART_NAMES[key]: told.details[key] for key in _SHOWN}
        return explanation_html.Member(
            name, found.risk, found.baseline, found.gap, ranked, groups, plan, counts, shares
        )

    def _groups(self, case: _Case, name: str, found: Attribution) -> list[explanation_html.Group]:
        """Each gene token with the genes it reads most, and the sets that those are rich in."""
        patient, names = redaction.redact_id(case.bag.patient_id), self.loaded.genes
        count = min(self.params.group_genes, len(names))
        weights, order = found.groups.sort(dim=1, descending=True, stable=True)
        chosen = [
            [(names[int(i)], float(w)) for i, w in zip(*pair, strict=True)]
            for pair in zip(order[:, :count], weights[:, :count], strict=True)
        ]
        listed = [[gene for gene, _ in group] for group in chosen]
        sets = gene_set_files.over_represented(listed, self.sets, len(names)) if self.sets else [[] for _ in listed]
        groups = []
        for number, (genes, entries) in enumerate(zip(chosen, sets, strict=True)):
            group = f"gene_{number}"
            for rank, (gene, weight) in enumerate(genes, start=1):
                self.rows["gene_groups"].writerow([patient, name, group, rank, gene, weight])
            for entry in entries:
                self.rows["gene_sets"].writerow(
                    [patient, name, group, *list(vars(entry).values())[:-1], " ".join(entry.genes)]
                )
            groups.append(explanation_html.Group(group, found.tokens[group], genes, entries))
        return groups

    def _tiles(self, case: _Case) -> list[explanation_html.SlideMap]:
        """tiles/<slide_id>.csv of each slide that has coordinates, and its map."""
        maps, start = [], 0
        scores = case.mean("tiles") if case.bag.slides else np.zeros(0)
        for slide in case.bag.slides:
            shown, coords = redaction.text(slide.slide_id), slide.coordinates
            here = slice(start, start + slide.count)
            start += slide.count
            png = ""
            if coords is None:
                self.blind += 1
            else:
                rows = zip(coords.tolist(), scores[here].tolist(), case.members[here].tolist(), strict=True)
                with (self.draft / "tiles" / f"{shown}.csv").open("w", encoding="utf-8", newline="") as stream:
                    writer = csv.writer(stream, lineterminator="\n")
                    writer.writerow(["x", "y", "score", "cluster"])
                    writer.writerows([x, y, score, cluster] for (x, y), score, cluster in rows)
                png = drawing.tile_map(coords, scores[here])
            maps.append(explanation_html.SlideMap(shown, slide.count, float(scores[here].sum()), png))
        return maps


def _place(case: _Case, found: Attribution, token: str) -> list[Any]:
    """Slide and level-0 corner of a critical patch; blanks for any other token."""
    kind, _, number = token.partition("_")
    if kind != "patch" or not number.isdecimal():
        return ["", "", ""]
    position = case.bag.tile_position(int(found.critical[int(number)]))
    corner = ["", ""] if position.x is None else [position.x, position.y]
    return [redaction.text(position.slide_id), *corner]
