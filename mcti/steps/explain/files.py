"""Output files of `mcti explain`: tables that grow by one patient at a time, and one page per patient."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mcti import redaction
from mcti.evaluation import attribution_shares
from mcti.explanation import explanation_html, figures, gene_sets
from mcti.explanation.explanation_html import GeneGroup, MemberExplanation, PatientReport, SlideMap
from mcti.model.attribution import Attribution
from mcti.model.names import PART_NAMES
from mcti.steps.explain.case import ExplainedPatient, top_genes

TABLES: Mapping[str, tuple[str, ...]] = {
    "contributions": (*("patient_id", "model", "risk", "baseline", "slides", "genes", "clinical", "gap", "gap_share"),),
    "tokens": ("patient_id", "model", "token", "contribution", "slide_id", "x", "y"),
    "gene_groups": ("patient_id", "model", "group", "rank", "gene", "weight"),
    "gene_sets": (
        *("patient_id", "model", "group", "gene_set", "overlap", "set_genes", "group_genes", "universe"),
        *("expected", "p", "q", "genes"),
    ),
    "plans": ("patient_id", "model", "cluster", "patches", "group", "mass"),
}
"""{table: columns} of the CSV files."""

SHARES = ("critical_patches", "transport_plan")
"""Parts of the attribution whose share is on the page."""


class ExplanationFiles:
    """Writes the files of an explanation below `draft`, patient by patient.

    genes: names of the genes of the model;  sets {name: genes}, may be empty;  group_genes: genes listed per group;
    cohort, notice: shown on every page
    """

    def __init__(
        self,
        draft: Path,
        genes: tuple[str, ...],
        sets: Mapping[str, frozenset[str]],
        group_genes: int,
        cohort: str,
        notice: str,
    ) -> None:
        for name in ("", "tiles", "patients"):
            (draft / name).mkdir()
        self._draft, self._genes, self._sets, self._group_genes = draft, genes, sets, group_genes
        self._cohort, self._notice = cohort, notice
        self._streams: dict[str, TextIO] = {}
        self._writers: dict[str, Any] = {}
        for name, columns in TABLES.items():
            self._streams[name] = (draft / f"{name}.csv").open("w", encoding="utf-8", newline="")
            self._writers[name] = csv.writer(self._streams[name], lineterminator="\n")
            self._writers[name].writerow(columns)
        self._gene_contributions: dict[str, NDArray[np.float32]] = {}
        self.slides_without_coordinates = 0

    def add(self, patient: ExplainedPatient) -> None:
        """Write the rows and the page of one patient."""
        patient_id, numbers = redaction.redact_id(patient.bag.patient_id), patient.numbers
        models = "+".join(patient.attributions)
        self._writers["contributions"].writerow([patient_id, models, *numbers.values(), patient.gap_share])
        contributions: list[tuple[str, float]] = []
        if patient.bag.genes is not None:
            values = patient.mean("genes").astype(np.float32)
            self._gene_contributions[patient_id] = values
            contributions = list(zip(self._genes, values.tolist(), strict=True))
        members = [self._member(patient_id, patient, name) for name in patient.attributions]
        report = PatientReport(
            patient_id, self._cohort, self._notice, numbers, contributions, members, self._slide_maps(patient)
        )
        page = explanation_html.render(report)
        (self._draft / "patients" / f"{patient_id}.html").write_text(page, encoding="utf-8")

    def close(self) -> None:
        """Close the tables and write genes.parquet."""
        import pandas as pd

        for stream in self._streams.values():
            stream.close()
        table = pd.DataFrame.from_dict(self._gene_contributions, orient="index", columns=list(self._genes))
        table.rename_axis("patient_id").to_parquet(self._draft / "genes.parquet")

    def _member(self, patient_id: str, patient: ExplainedPatient, name: str) -> MemberExplanation:
        attribution = patient.attributions[name]
        for token, contribution in attribution.tokens.items():
            position = patient.token_position(attribution, token)
            self._writers["tokens"].writerow([patient_id, name, token, contribution, *position])
        groups = self._groups(patient_id, name, attribution) if patient.bag.genes is not None else []
        plan = patient.cluster_plan(attribution) if groups else []
        sizes = np.bincount(patient.clusters).tolist() if len(patient.clusters) else []
        for cluster, row in enumerate(plan):
            for group, mass in enumerate(row):
                self._writers["plans"].writerow([patient_id, name, cluster, sizes[cluster], f"gene_{group}", mass])
        shares = attribution_shares.shares([attribution.tokens])
        return MemberExplanation(
            name=name,
            risk=attribution.risk,
            baseline=attribution.baseline,
            gap=attribution.gap,
            tokens=sorted(attribution.tokens.items(), key=lambda token: -abs(token[1])),
            groups=groups,
            plan=plan,
            cluster_patches=sizes,
            shares={} if shares is None else {PART_NAMES[key]: shares.details[key] for key in SHARES},
        )

    def _groups(self, patient_id: str, model: str, attribution: Attribution) -> list[GeneGroup]:
        """Each gene group with its genes of largest weight and the gene sets over-represented among these."""
        genes_by_group = top_genes(attribution, self._genes, self._group_genes)
        listed = [[gene for gene, _ in group] for group in genes_by_group]
        tested: list[list[gene_sets.Enrichment]] = [[] for _ in listed]
        if self._sets:
            tested = gene_sets.over_represented(listed, self._sets, len(self._genes))
        groups = []
        for number, (genes, entries) in enumerate(zip(genes_by_group, tested, strict=True)):
            group = f"gene_{number}"
            for rank, (gene, weight) in enumerate(genes, start=1):
                self._writers["gene_groups"].writerow([patient_id, model, group, rank, gene, weight])
            for entry in entries:
                numbers = list(vars(entry).values())[:-1]
                self._writers["gene_sets"].writerow([patient_id, model, group, *numbers, " ".join(entry.genes)])
            groups.append(GeneGroup(group, attribution.tokens[group], genes, entries))
        return groups

    def _slide_maps(self, patient: ExplainedPatient) -> list[SlideMap]:
        """tiles/<slide_id>.csv of each slide with coordinates, and the tile maps."""
        maps, start = [], 0
        scores = patient.mean("tiles") if patient.bag.slides else np.zeros(0)
        for slide in patient.bag.slides:
            rows = slice(start, start + slide.count)
            start += slide.count
            slide_id, png = redaction.text(slide.slide_id), ""
            if slide.coordinates is None:
                self.slides_without_coordinates += 1
            else:
                self._write_tiles(slide_id, slide.coordinates, scores[rows], patient.clusters[rows])
                png = figures.png_address(figures.tile_map(slide.coordinates, scores[rows]))
            maps.append(SlideMap(slide_id, slide.count, float(scores[rows].sum()), png))
        return maps

    def _write_tiles(
        self, slide_id: str, coordinates: NDArray[np.int64], scores: NDArray[np.float64], clusters: NDArray[np.int64]
    ) -> None:
        rows = zip(coordinates.tolist(), scores.tolist(), clusters.tolist(), strict=True)
        with (self._draft / "tiles" / f"{slide_id}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["x", "y", "score", "cluster"])
            writer.writerows([x, y, score, cluster] for (x, y), score, cluster in rows)
