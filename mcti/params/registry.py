"""Settings of the model registry and of its gates."""

from typing import Literal

from pydantic import Field

from mcti.params.base import Params


class RegisterParams(Params):
    """Registration of a trained model."""

    name: str = Field("mcti", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="name of the registered model")
    experiment: str = Field("mcti", min_length=1, description="MLflow experiment")
    predictor: Literal["cv_ensemble", "refit"] = Field(
        "cv_ensemble",
        description="model for new patients: the mean of the folds, or `mcti train --refit` on all patients",
    )
    intended_use: str = Field("", description="for the model card: users and purpose; empty: reported as missing")
    data_licence: str = Field("", description="for the model card: licence of the data; empty: reported as missing")
    contact: str = Field("", description="for the model card: person responsible; empty: reported as missing")


class PromoteParams(Params):
    """The gates between challenger and champion (docs/registry.md)."""

    bootstrap: int = Field(2000, ge=100, le=100_000, description="paired resamples of the patients")
    margin: float = Field(
        0.0, ge=-1, le=1, description="lead in Uno's C that the lower end of the challenger's interval must exceed"
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="probability of a false promotion over all gate evaluations on one set of test patients",
    )
    looks: int = Field(
        10, ge=1, le=1000, description="gate evaluations over which `alpha` is spent; more need new patients"
    )
    spending: Literal["pocock", "obrien-fleming"] = Field(
        "pocock",
        description="spending function (Lan and DeMets 1983): pocock is nearly even, obrien-fleming spends late",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the non-inferiority intervals")
    min_events: int = Field(20, ge=1, description="events; with fewer the outcome is: not enough evidence")
    ibs_margin: float = Field(
        0.01, ge=0, description="difference in integrated Brier score by which the challenger may be worse"
    )
    calibration_margin: float = Field(
        0.05, ge=0, description="difference in integrated calibration index (last horizon) by which it may be worse"
    )
    group_margin: float = Field(
        0.1, ge=0, description="difference in Uno's C by which it may be worse in a group or regime"
    )
    group_min_events: int = Field(
        50,
        ge=10,
        description="events from which a group must show non-inferiority; with fewer only shown inferiority rejects",
    )
    baseline_margin: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="difference in Uno's C by which the challenger may be worse than `evaluate.primary_baseline`",
    )
    baseline_ibs_margin: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="difference in integrated Brier score by which it may be worse than `evaluate.primary_baseline`",
    )
    require_baseline: bool = Field(
        False,
        description="true: the challenger must be shown to be within both margins of the primary baseline (with "
        "margins of 0: better); false: it is rejected only where it is shown to be worse",
    )
    max_latency_ratio: float = Field(
        2.0, gt=0, description="processor time of a prediction, as a multiple of the champion's"
    )
    max_memory_ratio: float = Field(2.0, gt=0, description="peak tensor memory, as a multiple of the champion's")
    benchmark_patches: int = Field(
        1000, ge=1, le=200_000, description="patches of the synthetic patient on which both are measured"
    )
    require_contract: bool = Field(
        True, description="true: without a result of `mcti validate` the outcome is: not enough evidence"
    )
    external: bool = Field(
        False,
        description="true: an external validation (`mcti test`) with `min_events` events must show a Uno's C above 0.5",
    )
    approvals: int = Field(
        0, ge=0, le=10, description="number of persons who must have approved (`mcti approve`); 2: two-person rule"
    )
    signed_approvals: bool = Field(
        False,
        description="true: only approvals with an electronic signature count (`mcti approve --meaning`); where "
        "`trust.require` is not none, a trusted key must have signed each of them",
    )
