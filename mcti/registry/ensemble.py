"""The models of all folds as one model.

A patient of the development cohort is predicted by the fold whose training part did not contain them: these numbers are
those of the evaluation, bit for bit. A new patient is predicted by the mean over all members or, where the version has
one, by the refit, which was trained on all patients (docs/registry.md). The development patients are stored as the
SHA-256 of their ids only.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcti.errors import DataError, did_you_mean
from mcti.model.categories import CovariateValue
from mcti.model.clinical import check_ranges
from mcti.model.compatibility import feature_difference
from mcti.model.member_predictions import StackedModels
from mcti.model.reference_profile import ReferenceProfile, mean_patch
from mcti.model.trained import TrainedModel, single_thread
from mcti.params.data import MAX_MISSING_GENES
from mcti.redaction import hashed
from mcti.registry.risk_groups import RiskScale

ALL_MEMBERS = "ensemble"
"""Value of the column `model` of a patient that all members predicted."""

CALCULATION = 3
"""Version of the arithmetic of `Ensemble.predict`: equal model, patient and version give equal bits. Version 1 computed
the members of a new patient one after the other, version 2 in one pass, version 3 with other operations for the lengths
of vectors (mcti/model/unit_vectors.py). Risks and survival differ in the last digits of float32; from 1 to 2 only those
of patients whom several members predict."""


def assigned_member(patient_id: str, names: Iterable[str]) -> str:
    """One of the members `names`, by the hash of the id: its risks have the spread of out-of-fold predictions.

    The mean over members spreads less.
    """
    members = sorted(names)
    return members[int(hashed(patient_id)[:8], 16) % len(members)]


class MissingGenesWarning(UserWarning):
    """An expression table lacks genes of the model; they count as not measured."""


class UnseenLevelWarning(UserWarning):
    """A level of a categorical covariate did not occur in training; it counts as missing."""


@dataclass(frozen=True)
class Ensemble:
    """Members by name, and for each development patient (by hash) the members that were not trained on them.

    horizons_months     months of the columns S_<months> and F_<months>
    digest              SHA-256 of weights and assignment
    reference_profiles  distribution of each member's training patients
    default_members     members that predict new patients; empty: all of them
    feature_attributes  how the features of the training were made, as recorded in their files
    in_sources          SHA-256 of the ids of the patients of its sources and its prior
    """

    members: Mapping[str, TrainedModel]
    assigned: Mapping[str, tuple[str, ...]]
    horizons_months: tuple[float, ...]
    digest: str
    reference_profiles: Mapping[str, ReferenceProfile] = field(default_factory=dict)
    default_members: tuple[str, ...] = ()
    feature_attributes: Mapping[str, Any] = field(default_factory=dict)
    in_sources: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        inputs = {(member.config.genes, member.config.covariates) for member in self.members.values()}
        if len(inputs) != 1:
            raise DataError(
                "the members expect different genes or covariates", "ensemble", "register folds of one training run"
            )
        if len({member.fitted.competing is None for member in self.members.values()}) != 1:
            what = "some members have a hazard of the competing event, others have none"
            raise DataError(what, "ensemble", "register folds of one training run")

    @property
    def genes(self) -> tuple[str, ...]:
        """The genes that the model reads, in order."""
        return tuple(next(iter(self.members.values())).config.genes)

    @property
    def covariates(self) -> tuple[str, ...]:
        """The clinical covariates that the model reads; most models read none."""
        return tuple(next(iter(self.members.values())).config.covariates)

    @cached_property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The levels of each categorical covariate that occurred in the training of a member, by its name."""
        known: dict[str, dict[str, None]] = {}
        for member in self.members.values():
            for one in member.config.categories:
                known.setdefault(one.name, {}).update(dict.fromkeys(one.levels))
        return {name: tuple(levels) for name, levels in known.items()}

    @property
    def example_covariates(self) -> dict[str, CovariateValue]:
        """The covariates of a synthetic patient: 0, or the first level."""
        return {name: self.levels[name][0] if name in self.levels else 0.0 for name in self.covariates}

    @property
    def classes(self) -> tuple[str, ...]:
        """The subtypes that the model predicts."""
        return tuple(next(iter(self.members.values())).config.classes)

    @property
    def competing(self) -> bool:
        """Whether the model predicts the cumulative incidence: its cohort has competing events."""
        return next(iter(self.members.values())).fitted.competing is not None

    @property
    def features(self) -> int:
        """D, the width of the features of one patch."""
        return int(next(iter(self.members.values())).config.features)

    def check_features(self, attributes: Mapping[str, Any], where: str) -> None:
        """Refuse features of another origin than those of the training, even where the width is the same.

        attributes  attributes of the feature files, `{name: value}`; an attribute that one side lacks, or that was
                    declared unknown, is not compared. Where both sides have the SHA-256 of the encoder's weights, it
                    is compared instead of the name.

        Raises DataError when encoder, weights, preprocessing, µm/px, patch size or level (patch, slide) differ.
        """
        difference = feature_difference(attributes, self.feature_attributes)
        if difference is not None:
            name, actual, expected = difference
            what = f"the features have {name} {actual}, those of the training had {expected}"
            raise DataError(what, where, "use features that were made with the settings of the training")

    @single_thread()
    def predict(
        self,
        patient_id: str,
        patches: Tensor | None,
        genes: Mapping[str, float | None] | None,
        horizons_months: Sequence[float] | None = None,
        covariates: Mapping[str, CovariateValue] | None = None,
        risk_groups: int = 2,
    ) -> dict[str, Any]:
        """One patient: one row of `mcti predict` and of the server (docs/serving.md).

        patches     (N, D) raw features of all slides, or None
        genes       {name: expression}, NaN or None: not measured
        covariates  {name: number or level} of the clinical covariates that the model reads, NaN or None: missing;
                    a level that did not occur in training counts as missing, with an UnseenLevelWarning

        risk, S_<months>           mean over the eligible members; risk has no unit, higher is worse
        S_<months>_low, _high      lowest and highest member; None where only one member predicts
        F_<months>, _low, _high    cumulative incidence, likewise; only for a cohort with competing events, where S is
                                   cause-specific
        risk_group                 one of `risk_groups` groups by quantiles of the out-of-fold risks
        ood_score                  distance from the training patients as a share of the threshold
        out_of_distribution        whether ood_score is above 1
        missing                    absent inputs of slides, genes, clinical (no covariate is known), joined by +
        unknown_genes              number of genes in the table that the model does not read
        beyond_followup            S_<months> columns later than the longest follow-up in training, joined by +
        model                      the fold that predicted, `refit`, or `ensemble`
        digest                     first 12 characters of the model's SHA-256

        Raises
        DataError when too many genes or a required input are missing, when a bag has the wrong width,
        or when a covariate is outside the range of the contract (age 0 to 120).
        """
        vector = self._measured_genes(patient_id, genes)
        predictions = self._member_predictions(patient_id, patches, vector, horizons_months, covariates)
        averages = _average(list(predictions.values()))
        score = self._ood_score(predictions, patches, vector, covariates)
        risks = {name: row["risk"] for name, row in predictions.items()}
        single = bool(self.default_members) or self.is_development_patient(patient_id)
        return {
            "patient_id": patient_id,
            "risk": averages.pop("risk"),
            "risk_group": self._risk_scale.group(risks, risk_groups),
            **averages,
            "ood_score": score,
            "out_of_distribution": None if score is None else score > 1,
            "missing": "+".join(self._missing_inputs(patches, vector, covariates)),
            "unknown_genes": len((genes or {}).keys() - self._gene_set),
            "beyond_followup": "+".join(self._beyond_follow_up(predictions)),
            "model": "+".join(predictions) if single else ALL_MEMBERS,
            "digest": self.digest[:12],
        }

    def member_predictions(
        self,
        patient_id: str,
        patches: Tensor | None,
        genes: Mapping[str, float | None] | None,
        horizons_months: Sequence[float] | None = None,
        covariates: Mapping[str, CovariateValue] | None = None,
    ) -> dict[str, dict[str, float]]:
        """The prediction of each eligible member, `{member: {risk, S_<months>…}}`; arguments and errors as `predict`.

        Raises DataError as `predict` does.
        """
        vector = self._measured_genes(patient_id, genes)
        return self._member_predictions(patient_id, patches, vector, horizons_months, covariates)

    def is_development_patient(self, patient_id: str) -> bool:
        """Whether the patient belongs to the development cohort."""
        return hashed(patient_id) in self.assigned

    def is_source_patient(self, patient_id: str) -> bool:
        """Whether the model learned from the patient in a source, or by its prior: no member has not seen them."""
        return hashed(patient_id) in self.in_sources

    def eligible_members(self, patient_id: str) -> tuple[str, ...]:
        """The members that predict this patient: those not trained on them; for a new patient the default members."""
        return self.assigned.get(hashed(patient_id), self.default_members or tuple(self.members))

    def percentile(self, patient_id: str, risk: float, levels: int = 100) -> float | None:
        """Share in % of unseen development patients with a risk below `risk`, in steps of 100 / levels.

        On the scale of the patient's eligible members; None for a model without reference profiles.
        """
        return self._risk_scale.percentile(self.eligible_members(patient_id), risk, levels)

    def gene_vector(self, patient_id: str, genes: Mapping[str, float | None]) -> Tensor:
        """(G,) expression in the order of the model, NaN where not measured.

        Up to `MAX_MISSING_GENES` of the model's genes may be absent: they count as not measured (the training mean),
        and a MissingGenesWarning names them.

        Raises DataError when more genes are absent.
        """
        missing = [name for name in self.genes if name not in genes]
        if len(missing) > MAX_MISSING_GENES * len(self.genes):
            what = f"gene {missing[0]!r} is missing ({len(missing)} of {len(self.genes)})"
            limit = f"at most {MAX_MISSING_GENES:.0%} may be missing; write null for a gene that was not measured"
            raise DataError(what, f"patient {patient_id}", f"{did_you_mean(missing[0], genes)}; {limit}")
        if missing:
            listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            message = f"{len(missing)} genes of the model are missing and count as not measured: {listed}"
            warnings.warn(message, MissingGenesWarning, stacklevel=2)
        # NumPy reads None as NaN, and 20,000 values faster than a loop.
        values = np.array(list(map(genes.get, self.genes)), dtype=np.float64)
        return torch.from_numpy(values).float()

    @cached_property
    def _risk_scale(self) -> RiskScale:
        return RiskScale(self.reference_profiles, self.default_members)

    @cached_property
    def _gene_set(self) -> frozenset[str]:
        return frozenset(self.genes)

    def _member_predictions(
        self,
        patient_id: str,
        patches: Tensor | None,
        vector: Tensor | None,
        horizons_months: Sequence[float] | None,
        covariates: Mapping[str, CovariateValue] | None,
    ) -> dict[str, dict[str, float]]:
        check_ranges(covariates or {}, self.covariates)
        self.warn_of_unseen_levels(covariates or {})
        horizons = self.horizons_months if horizons_months is None else tuple(horizons_months)
        names = self.eligible_members(patient_id)
        stacked = self.stacked(names)
        if stacked is not None:
            return stacked.predict(patches, vector, horizons, covariates)
        return {name: self.members[name].predict(patches, vector, horizons, covariates) for name in names}

    def stacked(self, names: tuple[str, ...]) -> StackedModels | None:
        """These members as one network; None for a single member, and where they cannot be one."""
        if names not in self._stacks:
            self._stacks[names] = StackedModels.of({name: self.members[name] for name in names})
        return self._stacks[names]

    @cached_property
    def _stacks(self) -> dict[tuple[str, ...], StackedModels | None]:
        return {}

    def warn_of_unseen_levels(self, covariates: Mapping[str, CovariateValue]) -> None:
        """An UnseenLevelWarning for each level of a patient that did not occur in the training of any member."""
        for name, levels in self.levels.items():
            value = covariates.get(name)
            if isinstance(value, str) and value not in levels:
                message = f"{name} {value!r} did not occur in training and counts as missing ({', '.join(levels)})"
                warnings.warn(message, UnseenLevelWarning, stacklevel=2)

    def _measured_genes(self, patient_id: str, genes: Mapping[str, float | None] | None) -> Tensor | None:
        """`gene_vector`; None where no gene was measured."""
        if genes is None or (genes and all(value is None or value != value for value in genes.values())):
            return None
        return self.gene_vector(patient_id, genes)

    def _missing_inputs(
        self, patches: Tensor | None, vector: Tensor | None, covariates: Mapping[str, CovariateValue] | None
    ) -> list[str]:
        values = [value for name, value in (covariates or {}).items() if name in self.covariates]
        no_covariate = bool(values) and all(value is None or value != value for value in values)
        absent = {"slides": patches is None, "genes": vector is None, "clinical": no_covariate}
        return [name for name, is_absent in absent.items() if is_absent]

    def _beyond_follow_up(self, predictions: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Columns of S(t) later than the follow-up of every training patient of one of the members."""
        follow_up = min(self.members[name].fitted.edges[-1] for name in predictions)
        columns = next(iter(predictions.values()))
        return [name for name in columns if name.startswith("S_") and float(name.removeprefix("S_")) > follow_up]

    def _ood_score(
        self,
        predictions: Mapping[str, object],
        patches: Tensor | None,
        vector: Tensor | None,
        covariates: Mapping[str, CovariateValue] | None,
    ) -> float | None:
        """Mean out-of-distribution score over the members that predicted; None where none is defined."""
        patch = mean_patch(patches)
        scores = [
            self.reference_profiles[name].ood_score(
                patch, vector, self.members[name].fitted, covariates, self.members[name].config.clinical_inputs
            )
            for name in predictions
            if name in self.reference_profiles
        ]
        defined = [score for score in scores if score is not None]
        return math.fsum(defined) / len(defined) if defined else None


def _average(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean of each column over the members; lowest and highest member of each S and F, None for a single member."""
    averages: dict[str, Any] = {}
    single = len(rows) == 1
    for column in rows[0]:
        values = [row[column] for row in rows]
        # A single row is passed through unchanged: it must have the bits of the evaluation.
        averages[column] = values[0] if single else math.fsum(values) / len(values)
        if column != "risk":
            averages[f"{column}_low"] = None if single else min(values)
            averages[f"{column}_high"] = None if single else max(values)
    return averages
