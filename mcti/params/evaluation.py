"""Settings of the evaluation and of explanations."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from mcti.params.base import Params
from mcti.params.training import unique_months

GATE_BASELINE = "cox_clinical"
"""The baseline that the gates of `promote` compare with."""


class EvaluateParams(Params):
    """Metrics, baselines and intervals."""

    seed: int = Field(7, ge=0, description="seed of the bootstrap")
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples of the patients for each interval")
    horizons_months: tuple[float, ...] = Field(
        (12.0, 36.0, 60.0),
        min_length=1,
        description="months of AUC, Brier score and calibration; a subset of train.horizons_months",
        strict=False,
    )
    baselines: tuple[str, ...] = Field(
        (
            *("kaplan_meier", "cox_clinical", "cox_genes", "cox_clinical_genes", "cox_slide_embedding"),
            *("linear_all", "forest", "boosting"),
        ),
        description="models fitted on the same folds (docs/evaluation.md); linear_all and cox_slides need slides, "
        "cox_slide_embedding needs embeddings of slides or patients",
        strict=False,
    )
    primary_baseline: str = Field(
        "cox_clinical_genes", description="baseline of the primary contrast, which Holm's method does not adjust"
    )
    risk_groups: int = Field(
        2, ge=2, le=4, description="groups of the Kaplan-Meier figure; the cuts are quantiles of the training fold"
    )
    attribution_patients: int = Field(
        40, ge=0, description="test patients whose attributions give the share of each part of the model; 0: none"
    )

    _horizons = field_validator("horizons_months")(unique_months)

    @model_validator(mode="after")
    def _primary_is_fitted(self) -> Self:
        if self.primary_baseline not in self.baselines:
            raise ValueError(
                f"primary_baseline {self.primary_baseline!r} is not fitted: add it to baselines, "
                "or name one of: " + ", ".join(self.baselines)
            )
        return self


class TestParams(Params):
    """External validation (docs/external-validation.md)."""

    cohort: str | None = Field(
        None,
        min_length=1,
        description="address of the cohort on which the pipelines test a new version before `promote`, as `mcti "
        "ingest` wrote it: folder, s3:// or dvc+s3://; null: no test in a pipeline",
    )
    features: str | None = Field(
        None,
        min_length=1,
        description="address of the features of that cohort, as `mcti extract` wrote them; null: without slides",
    )

    recalibration_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="share of the patients of the cohort on whom `mcti test --recalibrate` fits; the others are the "
        "evidence for the recalibrated version",
    )

    @model_validator(mode="after")
    def _features_have_a_cohort(self) -> Self:
        if self.features is not None and self.cohort is None:
            raise ValueError("features without a cohort: set test.cohort, or remove test.features")
        return self


class ExplainParams(Params):
    """Decomposition of the risk of a patient (docs/explain.md)."""

    steps: int = Field(
        64, ge=8, le=4096, description="largest number of points of the integrated gradients; 16 where the gap is small"
    )
    clusters: int = Field(6, ge=1, le=50, description="clusters of a patient's patches")
    group_genes: int = Field(50, ge=3, description="genes of a group that are listed and tested for gene sets")
