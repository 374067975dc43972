"""A trained network with its fitted scales: from weights and JSON to the risk of one patient.

Training writes it, registry and prediction read it. This module handles tensors and plain values, no files.
"""

import contextlib
import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mcti.errors import DataError, did_you_mean
from mcti.model.categories import ClinicalInput, CovariateValue, encoded_row, input_names
from mcti.model.comparators import Comparator, build
from mcti.model.competing_hazard import CompetingHazard
from mcti.model.hazards import hazard_and_survival, survival_at
from mcti.model.network import MCTI, Prediction
from mcti.model.presets import ModelConfig
from mcti.model.transport.plan import finite
from mcti.storage import to_json


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each column over the training part; (columns,) float32 each.

    A constant column has sd 1, so that it becomes 0. One transform may precede the standardisation; mean and sd are
    those of the transformed values.

    limits         (2, columns): values beyond the limits become the limit (winsorised)
    quantile_grid  (K, columns) quantiles at even levels of 1 / (K + 1): values become the normal scores of their level,
                   linear between grid points and constant beyond; tied grid points have their middle level
    """

    mean: Tensor
    sd: Tensor
    limits: Tensor | None = None
    quantile_grid: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """(…, columns) -> standardised; a missing value (NaN) becomes 0, the training mean."""
        # In place: `isnan` and `where` would allocate two more tables per bag, at four times the cost.
        return self.standardised(values).nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)

    def standardised(self, values: Tensor) -> Tensor:
        """(…, columns) -> standardised; a missing value remains NaN."""
        return (self.transformed(values) - self.mean).div_(self.sd)

    def transformed(self, values: Tensor) -> Tensor:
        """(…, columns) after the transform of this scale; a missing value remains NaN."""
        if self.limits is not None:
            return values.clamp(self.limits[0], self.limits[1])
        return values if self.quantile_grid is None else _normal_scores(values, self.quantile_grid)

    def spec(self) -> dict[str, Any]:
        """As JSON values; float32 numbers survive the conversion unchanged."""
        transform = {"limits": self.limits, "quantile_grid": self.quantile_grid}
        tables = {name: table.tolist() for name, table in transform.items() if table is not None}
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist(), **tables}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Scale":
        """The inverse of `spec`.

        Raises ValueError when the tables differ in width
        """
        tables = {name: torch.tensor(spec[name], dtype=torch.float32) for name in _TABLES if name in spec}
        if any(table.shape[-1:] != tables["mean"].shape for table in tables.values()):
            raise ValueError("the tables of a scale differ in width")
        return cls(**tables)


_TABLES = ("mean", "sd", "limits", "quantile_grid")


def _normal_scores(values: Tensor, grid: Tensor) -> Tensor:
    """Van der Waerden scores (…, columns): the normal quantile of the level of each value on the grid (K, columns)."""
    columns, rows = grid.T.double().contiguous(), values.reshape(-1, values.shape[-1]).T.double().contiguous()
    count = columns.shape[1]
    above = torch.searchsorted(columns, rows, right=True)
    below = torch.searchsorted(columns, rows, right=False)
    low, high = (above - 1).clamp(0, count - 1), above.clamp(0, count - 1)
    left, right = columns.gather(1, low), columns.gather(1, high)
    share = torch.where(right > left, (rows - left) / (right - left), torch.zeros_like(rows))
    # A value on one or several equal grid points takes the middle of their levels; between points linear.
    tied = above > below
    position = torch.where(tied, (below + above - 1) / 2, low + share)
    scores = torch.special.ndtri((position + 1) / (count + 1))
    return torch.where(rows.isnan(), rows, scores).T.reshape(values.shape).to(values.dtype)


@dataclass(frozen=True)
class Recalibration:
    """Recalibration of the survival curves, fitted in mcti/training/recalibration.py.

    The increment h_j of the cumulative hazard in bin j becomes exp(intercept + centre_j + slope (log h_j - centre_j)).
    Intercept 0 and slope 1 change nothing.

    centre  (B,) mean log increment of each bin over the patients of the fit
    """

    intercept: float
    slope: float
    centre: tuple[float, ...]

    def __call__(self, survival: Tensor) -> Tensor:
        """S after each bin (b, B) -> recalibrated S (b, B), float64."""
        centre = torch.tensor(self.centre, dtype=torch.float64)
        logs = self.intercept + centre + self.slope * (hazard_increments(survival).log() - centre)
        return (-logs.exp().cumsum(1)).exp()


def hazard_increments(survival: Tensor) -> Tensor:
    """Increments of the cumulative hazard -log S: S after each bin (b, B) -> (b, B) float64, above 0."""
    logs = survival.double().clamp_min(torch.finfo(torch.float32).tiny).log()
    before = torch.cat([torch.zeros(len(logs), 1, dtype=torch.float64), logs[:, :-1]], dim=1)
    return (before - logs).clamp_min(1e-6)  # smaller increments are rounding


@dataclass(frozen=True)
class Fitted:
    """Everything else that was fitted on the training part.

    genes      scale of the expression vector, G columns
    features   scale of the patch features, D columns
    edges      B + 1 months, strictly rising: bin j is [edges[j], edges[j + 1]); edges[0] = 0; edges[B] is the longest
               follow-up of the training part, and the last bin includes all later times
    covariates scale of the columns of the clinical covariates, in the order of `config.clinical_columns`
    recalibration of the survival curves; None: the curves of the network
    competing  hazard of the competing event; None: the cohort has no competing events
    """

    genes: Scale
    features: Scale
    edges: tuple[float, ...]
    covariates: Scale = field(default_factory=lambda: Scale(torch.zeros(0), torch.zeros(0)))
    recalibration: Recalibration | None = None
    competing: CompetingHazard | None = None

    def spec(self) -> dict[str, Any]:
        """As JSON values."""
        scales = {name: getattr(self, name).spec() for name in ("genes", "features", "covariates")}
        curves = {} if self.recalibration is None else {"recalibration": asdict(self.recalibration)}
        curves |= {} if self.competing is None else {"competing_hazard": self.competing.spec()}
        return {**scales, "edges_months": list(self.edges), **curves}

    def check(self, config: ModelConfig, where: str) -> None:
        """Compare the sizes of scales and edges with the configuration.

        Raises DataError when they differ
        """
        fitted = (len(self.genes.mean), len(self.features.mean), len(self.edges) - 1, len(self.covariates.mean))
        configured = (len(config.genes), config.features, config.bins, len(config.clinical_columns))
        if fitted != configured:
            what = f"fitted to {fitted} genes, features, bins and covariates, but configured for {configured}"
            raise DataError(what, where, "use the model.json that `mcti train` wrote")

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Fitted":
        """The inverse of `spec`."""
        edges = tuple(float(edge) for edge in spec["edges_months"])
        genes, features, covariates = (Scale.from_spec(spec[name]) for name in ("genes", "features", "covariates"))
        curves = spec.get("recalibration")
        recalibration = None
        if curves is not None:
            centre = tuple(float(value) for value in curves["centre"])
            recalibration = Recalibration(float(curves["intercept"]), float(curves["slope"]), centre)
        hazard = spec.get("competing_hazard")
        competing = None if hazard is None else CompetingHazard.from_spec(hazard)
        return cls(genes, features, edges, covariates, recalibration, competing)


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Use one torch thread while the body runs; a context manager or a decorator.

    This fixes the order of the additions in a sum, and parallel processes do not wait for each other's threads, which
    would cost more than the arithmetic of one patient.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _weights_hint(expected: set[str], stored: set[str]) -> str:
    """What to do about weights that do not fit; other names mean another version, other shapes another fold."""
    if expected == stored:
        return "use both files of the same fold folder"
    return "an earlier version of mcti made this model: train it again (`dvc repro`), or use that version"


class TrainedModel:
    """Network and fitted scales; `predict` returns the risk and survival curve of one patient.

    The same weights, patient and processor type give the same bits in every process: one patient at a time, unpadded,
    one thread, float32 on the CPU, independent of the load of the machine and the size of the request.
    """

    def __init__(self, net: MCTI | Comparator, config: ModelConfig, fitted: Fitted) -> None:
        self.net, self.config, self.fitted = net.to("cpu").eval(), config, fitted

    @cached_property
    def double_net(self) -> MCTI | Comparator:
        """The network in float64, without gradients, for attributions."""
        return copy.deepcopy(self.net).double().requires_grad_(requires_grad=False)

    @classmethod
    def from_state(
        cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any], where: str = "model.json"
    ) -> "TrainedModel":
        """The model of `weights.safetensors` (name -> tensor of the shape that `model.json` implies) and `model.json`.

        Raises DataError when the two do not match or a part is missing
        """
        try:
            config = ModelConfig.from_json(to_json(spec["config"]), where)
            fitted = Fitted.from_spec(spec["fitted"])
        except (KeyError, TypeError, ValueError) as error:
            hint = "use the model.json that `mcti train` wrote"
            raise DataError(f"{error} is missing or malformed", where, hint) from error
        fitted.check(config, where)
        net = build(config)
        try:
            net.load_state_dict(dict(tensors), strict=True)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()  # the first entry of a long list, after its title
            hint = _weights_hint(set(net.state_dict()), set(tensors))
            raise DataError(f"the weights do not fit the configuration ({first})", where, hint) from error
        return cls(net, config, fitted)

    def spec(self) -> dict[str, Any]:
        """`config` and `fitted` as JSON values for model.json."""
        return {"config": json.loads(self.config.to_json()), "fitted": self.fitted.spec()}

    def predict(
        self,
        patches: Tensor | None,
        genes: Tensor | None,
        horizons_months: Sequence[float],
        covariates: Mapping[str, CovariateValue] | None = None,
        *,
        subtypes: bool = False,
    ) -> dict[str, float]:
        """Risk and survival of one patient: `{"risk": …, "S_12": …, "S_36": …}`, with `subtypes` also `P_<class>`.

        patches          (N, D) raw features of all slides; None: the patient has no slides
        genes            (G,) raw expression in the order of `config.genes`, NaN where not measured; None: none
        horizons_months  months at which S(t), the probability of being event-free until then, is returned
        covariates       {name: number or level}, None or NaN where missing; all of `config.covariates` must be present

        Risk is -sum_j S_j over the bins (docs/model.md, section 6): higher = earlier event, no unit, comparable within
        one model only. It is never recalibrated; S(t) is, where `fitted` has a recalibration. mcti/model/hazards.py
        describes S(t) between the bin edges and beyond the last one. A model of a cohort with competing events also
        returns `F_<months>`, the cumulative incidence (`CompetingHazard.incidence`); its S(t) is cause-specific.

        Raises DataError when a bag or vector has the wrong width, a bag is empty or has a NaN feature, a modality is
                         missing that the model needs, or a covariate of the model is absent
        """
        output = self.output(patches, genes, covariates)
        row = self.row(output.survival, output.risk, horizons_months)
        if subtypes:
            shares = output.subtype_logits[0].double().softmax(0).tolist()
            row |= {subtype_column(name): share for name, share in zip(self.config.classes, shares, strict=True)}
        return row

    def predict_cox_part(
        self,
        patches: Tensor | None,
        genes: Tensor | None,
        horizons_months: Sequence[float],
        covariates: Mapping[str, CovariateValue] | None = None,
    ) -> dict[str, float]:
        """`predict` by the Cox model of the ensemble alone: as with a `cox_weight` of 1, without the network's forward.

        Returns risk (no unit) and S_<months> (share) by name.
        Arguments and errors as in `predict`; the model has a Cox branch.
        """
        branch, inputs = self.net.cox_branch, self.inputs(patches, genes, covariates)
        assert branch is not None
        with single_thread(), torch.inference_mode():
            values = [inputs.get(name) for name in ("covariates", "slides_present", "genes_present")]
            scores = branch.scores(inputs["patches"], inputs["mask"], inputs["genes"], *values)
            survival = hazard_and_survival(branch.alone(scores), self.config.head)[1]
        return self.row(survival, -survival.sum(1), horizons_months)

    def row(self, survival: Tensor, risk: Tensor, horizons_months: Sequence[float]) -> dict[str, float]:
        """Risk (1,), S and with competing events F at the horizons, from S after each bin (1, B)."""
        curve = survival.double()
        if self.fitted.recalibration is not None:
            curve = self.fitted.recalibration(curve)
        values = survival_at(curve, self.fitted.edges, horizons_months, self.config.head)[0]
        row = {"risk": float(risk[0]), **dict(zip(map(survival_column, horizons_months), values.tolist(), strict=True))}
        if self.fitted.competing is not None:
            hazard = self.fitted.competing
            steps = survival_at(curve, self.fitted.edges, hazard.months, self.config.head)[0]
            incidence = hazard.incidence(steps.numpy(), values.numpy()).tolist()
            row |= zip(map(incidence_column, horizons_months), incidence, strict=True)
        return row

    @single_thread()
    def output(
        self, patches: Tensor | None, genes: Tensor | None, covariates: Mapping[str, CovariateValue] | None = None
    ) -> Prediction:
        """Network output of one patient, shape (1, …), not recalibrated; arguments and errors as in `predict`."""
        inputs = self.inputs(patches, genes, covariates)
        with torch.inference_mode():
            output: Prediction = self.net(**inputs)
        return output

    def inputs(
        self, patches: Tensor | None, genes: Tensor | None, covariates: Mapping[str, CovariateValue] | None = None
    ) -> dict[str, Tensor]:
        """Standardised inputs of the network for one patient: patches (1, N, F), mask (1, N), genes (1, G).

        Arguments and errors as in `predict`.
        """
        patches, genes = select_modalities(self.config, patches, genes)
        rows = torch.zeros(1, self.config.features) if patches is None else self.fitted.features(patches.float())
        vector = torch.zeros(len(self.config.genes)) if genes is None else self.fitted.genes(genes.float())
        inputs = {"patches": rows[None], "mask": torch.ones(1, len(rows), dtype=torch.bool), "genes": vector[None]}
        if self.config.missing:
            inputs["slides_present"] = torch.tensor([patches is not None])
            inputs["genes_present"] = torch.tensor([genes is not None])
        if self.config.covariates:
            row = covariate_row(covariates or {}, self.config.clinical_inputs, "the patient")
            inputs["covariates"] = self.fitted.covariates.standardised(row)[None]
        return inputs


def select_modalities(
    config: ModelConfig, patches: Tensor | None, genes: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """The modalities of a patient that a model of this configuration reads; shapes as in `TrainedModel.predict`.

    Raises DataError when none is left, a modality is missing that the model needs, or one has the wrong shape
    """
    patches = patches if "slides" in config.modalities else None
    genes = genes if "genes" in config.modalities else None
    if patches is None and genes is None:
        required = " or ".join(config.modalities)
        raise DataError(f"no {required}, and the model has no other inputs", "the patient", "exclude the patient")
    if (patches is None or genes is None) and not config.missing:
        absent = "slides" if patches is None else "genes"
        hint = "train with train.modality_dropout above 0, or exclude the patient"
        raise DataError(f"no {absent}, and the model was trained on patients with both", "the patient", hint)
    if patches is not None:
        check_bag(patches, config.features, "the patient's bag")
    if genes is not None and tuple(genes.shape) != (len(config.genes),):
        what = f"{tuple(genes.shape)} expression values, not ({len(config.genes)},)"
        raise DataError(what, "the patient's genes", "provide the genes of the model's config, in its order")
    return patches, genes


def check_bag(patches: Tensor, width: int, where: str) -> None:
    """Check a bag.

    Raises DataError when its shape is not (N >= 1, width) or a value is NaN or infinite
    """
    if patches.ndim != 2 or patches.shape[1] != width:
        what = f"features of shape {tuple(patches.shape)}, not (N, {width})"
        raise DataError(what, where, "extract all slides with one encoder")
    if len(patches) == 0:
        raise DataError("a bag without a patch", where, "remove the slide, or extract it again")
    if not finite(patches):
        row = int((~patches.isfinite()).any(dim=1).nonzero()[0, 0])
        raise DataError(f"row {row} of the features is NaN or infinite", where, "extract the slide again")


def survival_column(months: float) -> str:
    """The column of S(months) in a predictions file: S_12, S_36, S_0.5."""
    return f"S_{months:g}"


def incidence_column(months: float) -> str:
    """The column of the cumulative incidence by `months` in a predictions file: F_12."""
    return f"F_{months:g}"


def subtype_column(name: str) -> str:
    """The column of the probability of a subtype in a predictions file."""
    return f"P_{name}"


def covariate_row(values: Mapping[str, CovariateValue], inputs: Sequence[ClinicalInput], where: str) -> Tensor:
    """(V,) float32 of these covariates in the order of `inputs`, NaN where missing or a level unseen in training.

    Raises DataError when a covariate is absent or infinite, or text in place of a number
    """
    names = input_names(inputs)
    for name in names:
        value = values.get(name, math.inf)
        if isinstance(value, float | int) and math.isinf(value):
            what = f"covariate {name!r} is " + ("infinite" if name in values else "absent")
            known = did_you_mean(name, values) if values else f"provide {', '.join(names)} (new patients: clinical.csv)"
            raise DataError(what, where, f"{known}; a missing value is null")
    return torch.tensor(encoded_row(values, inputs, where), dtype=torch.float32)
