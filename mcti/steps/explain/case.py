"""The explanation of one patient: attributions by each eligible model, clusters of their patches, gene groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from mcti import redaction
from mcti.arrays import FloatArray, IntArray
from mcti.dataset.bags import PatientBag
from mcti.errors import MctiError
from mcti.explanation import clusters
from mcti.model.attribution import Attribution, attribute, attribute_members
from mcti.params import ExplainParams
from mcti.registry.ensemble import Ensemble
from mcti.steps.predict.step import expression_by_gene


@dataclass(frozen=True)
class ExplainedPatient:
    """One patient with the attribution by each eligible model.

    clusters (N,)  cluster of each patch of the bag; empty without slides
    """

    bag: PatientBag
    attributions: Mapping[str, Attribution]
    clusters: IntArray

    def mean(self, name: str) -> FloatArray:
        """A field of the attributions, averaged over the models like the risk of the ensemble."""
        values = [
            np.asarray(getattr(attribution, name), dtype=np.float64) for attribution in self.attributions.values()
        ]
        return np.asarray(np.mean(values, axis=0))

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Means over the models, in the unit of risk: risk, baseline, contribution per modality, completeness gap."""
        modalities = [attribution.modalities for attribution in self.attributions.values()]
        contributions = {name: float(np.mean([part[name] for part in modalities])) for name in modalities[0]}
        ends = {name: float(self.mean(name)) for name in ("risk", "baseline")}
        return ends | contributions | {"gap": float(self.mean("gap"))}

    @property
    def gap_share(self) -> float:
        """The completeness gap as a share of risk minus baseline; 0 where these are equal."""
        difference = abs(self.numbers["risk"] - self.numbers["baseline"])
        return abs(self.numbers["gap"]) / difference if difference else 0.0

    def token_position(self, attribution: Attribution, token: str) -> list[Any]:
        """Slide and level-0 corner of a critical patch; three empty cells for any other token."""
        prefix, _, number = token.partition("_")
        if prefix != "patch" or not number.isdecimal():
            return ["", "", ""]
        position = self.bag.tile_position(int(attribution.critical[int(number)]))
        corner = ["", ""] if position.x is None else [position.x, position.y]
        return [redaction.text(position.slide_id), *corner]

    def cluster_plan(self, attribution: Attribution) -> list[list[float]]:
        """(clusters, groups) transport mass; empty without slides or without genes."""
        if not len(self.clusters) or self.bag.genes is None:
            return []
        shares, plan = attribution.shares.numpy(), attribution.plan.numpy()
        mass: list[list[float]] = clusters.cluster_plan(self.clusters, shares, plan).tolist()
        return mass


def explain_patient(
    ensemble: Ensemble, bag: PatientBag, genes: tuple[str, ...], params: ExplainParams
) -> ExplainedPatient:
    """Attribute the risk of a patient under each model that would predict them; genes: names of `bag.genes`.

    Raises
        DataError when genes or slides of the patient do not fit the model
    """
    try:
        vector = (
            None if bag.genes is None else ensemble.gene_vector(bag.patient_id, expression_by_gene(bag, genes) or {})
        )
        ensemble.warn_of_unseen_levels(bag.clinical)
        attributions = _attributions(ensemble, bag, vector, params.steps)
    except MctiError as error:
        raise error.with_patient(bag.patient_id) from error
    members = np.zeros(0, np.int64)
    if bag.patches is not None:
        first = next(iter(attributions))
        standardised = ensemble.members[first].fitted.features(bag.patches.float()).numpy()
        members = clusters.clusters(standardised, params.clusters)
    return ExplainedPatient(bag, attributions, members)


def _attributions(ensemble: Ensemble, bag: PatientBag, vector: Tensor | None, steps: int) -> dict[str, Attribution]:
    """The attribution by each eligible model, {name: attribution}; vector: the genes of the model (G,)."""
    names, data = ensemble.eligible_members(bag.patient_id), (bag.patches, vector, bag.clinical)
    stacked = ensemble.stacked(names)
    if stacked is not None:
        return attribute_members(stacked, *data, steps=steps)
    return {name: attribute(ensemble.members[name], *data, steps=steps) for name in names}


def top_genes(attribution: Attribution, names: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
    """(gene, weight) of the `count` genes with the largest weights in each gene group, the largest first."""
    weights, order = attribution.groups.sort(dim=1, descending=True, stable=True)
    limit = min(count, len(names))
    return [
        [(names[int(i)], float(w)) for i, w in zip(*pair, strict=True)]
        for pair in zip(order[:, :limit], weights[:, :limit], strict=True)
    ]
