"""A trained network with everything fitted beside it: from weights and JSON to the risk of one patient.

Training writes it, the registry and the prediction read it; this module knows tensors and plain values, no files.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from mcti.errors import DataError, did_you_mean
from mcti.model.comparators import Peer, build
from mcti.model.hazards import survival_at
from mcti.model.network import MCTI, Prediction
from mcti.model.presets import ModelConfig
from mcti.model.transport.plan import finite
from mcti.storage import to_json


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each column over the training part; (columns,) float32 each.

    A column that does not vary has sd 1: it becomes 0 and stays silent. Before it is standardised a value may pass

    limits  (2, columns): values beyond them become the limit (winsorised)
    knots   (K, columns) quantiles at even levels of 1 / (K + 1): values become normal scores of their level, linear
            between the knots and constant beyond; of tied knots the middle level counts

    Mean and sd are those of the values after it.
    """

    mean: Tensor
    sd: Tensor
    limits: Tensor | None = None
    knots: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """(…, columns) -> standardised; a missing value (NaN) becomes 0, the training mean."""
        # In place: `isnan` and `where` would make two more tables of a bag, at four times the cost.
        return self.keeping_gaps(values).nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)

    def keeping_gaps(self, values: Tensor) -> Tensor:
        """(…, columns) -> standardised; a missing value stays NaN."""
        return (self.transformed(values) - self.mean).div_(self.sd)

    def transformed(self, values: Tensor) -> Tensor:
        """(…, columns) winsorised or ranked as the scale says; a missing value stays NaN."""
        if self.limits is not None:
            return values.clamp(self.limits[0], self.limits[1])
        return values if self.knots is None else _normal_scores(values, self.knots)

    def spec(self) -> dict[str, Any]:
        """As JSON values; float32 numbers survive the way there and back unchanged."""
        beside = {"limits": self.limits, "knots": self.knots}
        known = {name: table.tolist() for name, table in beside.items() if table is not None}
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist(), **known}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Scale":
        """The inverse of `spec`; a table of another width than the mean is a ValueError."""
        found = {name: torch.tensor(spec[name], dtype=torch.float32) for name in _TABLES if name in spec}
        if any(table.shape[-1:] != found["mean"].shape for table in found.values()):
            raise ValueError("a scale whose tables differ in width")
        return cls(**found)


_TABLES = ("mean", "sd", "limits", "knots")


def _normal_scores(values: Tensor, knots: Tensor) -> Tensor:
    """Van der Waerden scores (…, columns): the normal quantile of the level at which a value lies among the knots."""
    columns, rows = knots.T.double().contiguous(), values.reshape(-1, values.shape[-1]).T.double().contiguous()
    count = columns.shape[1]
    above = torch.searchsorted(columns, rows, right=True)
    below = torch.searchsorted(columns, rows, right=False)
    low, high = (above - 1).clamp(0, count - 1), above.clamp(0, count - 1)
    left, right = columns.gather(1, low), columns.gather(1, high)
    share = torch.where(right > left, (rows - left) / (right - left), torch.zeros_like(rows))
    # At a knot, and at several equal ones, the middle of their levels; between knots the straight line.
    tied = above > below
    position = torch.where(tied, (below + above - 1) / 2, low + share)
    scores = torch.special.ndtri((position + 1) / (count + 1))
    return torch.where(rows.isnan(), rows, scores).T.reshape(values.shape).to(values.dtype)


@dataclass(frozen=True)
class Recalibration:
    """Curves put right: what bin j adds to the cumulative hazard becomes exp(intercept + centre_j + slope (log h_j -
    centre_j)); fitted in mcti/training/recalibration.py. intercept 0 and slope 1 change nothing.

    centre  (B) mean log of what each bin adds, over the patients that it was fitted on
    """

    intercept: float
    slope: float
    centre: tuple[float, ...]

    def __call__(self, survival: Tensor) -> Tensor:
        """S after each bin (b, B) -> the same put right, float64."""
        centre = torch.tensor(self.centre, dtype=torch.float64)
        logs = self.intercept + centre + self.slope * (cumulative_steps(survival).log() - centre)
        return (-logs.exp().cumsum(1)).exp()


def cumulative_steps(survival: Tensor) -> Tensor:
    """What each bin adds to the cumulative hazard -log S: S after each bin (b, B) -> (b, B) float64, above 0."""
    logs = survival.double().clamp_min(torch.finfo(torch.float32).tiny).log()
    before = torch.cat([torch.zeros(len(logs), 1, dtype=torch.float64), logs[:, :-1]], dim=1)
    return (before - logs).clamp_min(1e-6)  # less than this is no hazard that anybody could measure


@dataclass(frozen=True)
class Fitted:
    """Everything beside the weights that was learned, from the patients of the training part alone.

    genes      scale of the expression vector, G columns
    features   scale of the patch features, D columns
    edges      B + 1 months, strictly rising: bin j is [edges[j], edges[j + 1]); edges[0] = 0; edges[B] is the longest
               follow-up of the training part, and the last bin takes all later times too
    covariates scale of the clinical covariates that the model reads, in the order of its configuration
    recalibration of the survival curves; None: they are as the network gives them
    """

    genes: Scale
    features: Scale
    edges: tuple[float, ...]
    covariates: Scale = field(default_factory=lambda: Scale(torch.zeros(0), torch.zeros(0)))
    recalibration: Recalibration | None = None

    def spec(self) -> dict[str, Any]:
        """As JSON values."""
        scales = {name: getattr(self, name).spec() for name in ("genes", "features", "covariates")}
        curves = {} if self.recalibration is None else {"recalibration": asdict(self.recalibration)}
        return {**scales, "edges_months": list(self.edges), **curves}

    def check(self, config: ModelConfig, where: str) -> None:
        """Raise DataError where the scales and edges are not those of this configuration's columns and bins."""
        found = (len(self.genes.mean), len(self.features.mean), len(self.edges) - 1, len(self.covariates.mean))
        wanted = (len(config.genes), config.features, config.bins, len(config.covariates))
        if found != wanted:
            what = f"fitted to {found} genes, features, bins and covariates, but configured for {wanted}"
            raise DataError(what, where, "take the model.json that `mcti train` wrote")

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
        return cls(genes, features, edges, covariates, recalibration)


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """One torch thread inside, the former number afterwards; a context, or `@single_thread()` over a function.

    Sums are then added in one order, whoever runs them; and several processes side by side do not wait for each
    other's threads, which costs more than the arithmetic of a patient.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TrainedModel:
    """Network and fitted scales; `predict` gives one patient's risk and survival curve.

    The same weights, patient and processor type give the same bits in every process: one patient at a time,
    unpadded, one thread, float32 on the CPU, whatever the load of the machine or the size of the request.
    """

    def __init__(self, net: MCTI | Peer, config: ModelConfig, fitted: Fitted) -> None:
        self.net, self.config, self.fitted = net.to("cpu").eval(), config, fitted

    @classmethod
    def from_state(
        cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any], where: str = "model.json"
    ) -> "TrainedModel":
        """The model of `weights.safetensors` (already read) and `model.json` (already parsed).

        Raises DataError when the two do not belong together or a part is missing.
        """
        try:
            config = ModelConfig.from_json(to_json(spec["config"]), where)
            fitted = Fitted.from_spec(spec["fitted"])
        except (KeyError, TypeError, ValueError) as error:
            hint = "take the model.json that `mcti train` wrote"
            raise DataError(f"{error} is missing or malformed", where, hint) from error
        fitted.check(config, where)
        net = build(config)
        try:
            net.load_state_dict(dict(tensors), strict=True)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()  # of a list as long as the network, below its title
            hint = "take both files from the same fold folder"
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
        covariates: Mapping[str, float | None] | None = None,
        *,
        subtypes: bool = False,
    ) -> dict[str, float]:
        """Risk and survival of one patient: `{"risk": …, "S_12": …, "S_36": …}`, with `subtypes` also `P_<class>`.

        patches          (N, D) raw features of all slides; None: the patient has no slides
        genes            (G,) raw expression in the order of `config.genes`, NaN where not measured; None: none
        horizons_months  months at which S(t), the probability of being event-free until then, is wanted
        covariates       {name: value}, None or NaN where missing; of `config.covariates` none may be left out

        Risk is -sum_j S_j over the bins (docs/model.md section 6): higher = earlier event, no unit, comparable
        within one model only; it is never recalibrated, S(t) is where `fitted` says so.  How S(t) runs between the bin
        edges and beyond the last: mcti/model/hazards.py.

        Raises DataError for a bag or a vector of the wrong width, a bag without a patch, a NaN feature, for a missing
        modality when the model was not trained for it, and for a covariate that the model reads and nobody named.
        """
        output = self.output(patches, genes, covariates)
        risk, survival = float(output.risk[0]), output.survival.double()
        if self.fitted.recalibration is not None:
            survival = self.fitted.recalibration(survival)
        curve = survival_at(survival, self.fitted.edges, horizons_months, self.config.head)[0]
        values = [float(value) for value in curve]
        found = {"risk": risk, **dict(zip(map(survival_column, horizons_months), values, strict=True))}
        if subtypes:
            shares = output.subtype_logits[0].double().softmax(0).tolist()
            found |= {subtype_column(name): share for name, share in zip(self.config.classes, shares, strict=True)}
        return found

    @single_thread()
    def output(
        self, patches: Tensor | None, genes: Tensor | None, covariates: Mapping[str, float | None] | None = None
    ) -> Prediction:
        """What the network says of one patient, as it says it; arguments and errors as in `predict`."""
        inputs = self.inputs(patches, genes, covariates)
        with torch.inference_mode():
            output: Prediction = self.net(**inputs)
        return output

    def inputs(
        self, patches: Tensor | None, genes: Tensor | None, covariates: Mapping[str, float | None] | None = None
    ) -> dict[str, Tensor]:
        """What the network is given for one patient, standardised; arguments and errors as in `predict`."""
        patches, genes = readable(self.config, patches, genes)
        rows = torch.zeros(1, self.config.features) if patches is None else self.fitted.features(patches.float())
        vector = torch.zeros(len(self.config.genes)) if genes is None else self.fitted.genes(genes.float())
        inputs = {"patches": rows[None], "mask": torch.ones(1, len(rows), dtype=torch.bool), "genes": vector[None]}
        if self.config.missing:
            inputs["slides_present"] = torch.tensor([patches is not None])
            inputs["genes_present"] = torch.tensor([genes is not None])
        if self.config.covariates:
            row = covariate_row(covariates or {}, self.config.covariates, "the patient")
            inputs["covariates"] = self.fitted.covariates.keeping_gaps(row)[None]
        return inputs


def readable(config: ModelConfig, patches: Tensor | None, genes: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """What of a patient a model of this configuration reads; shapes as in `TrainedModel.predict`.

    Raises DataError when it reads nothing of them, lacks a modality that it must have, or cannot use what is there.
    """
    patches = patches if "slides" in config.modalities else None
    genes = genes if "genes" in config.modalities else None
    if patches is None and genes is None:
        needed = " or ".join(config.modalities)
        raise DataError(f"no {needed}, and the model reads nothing else", "the patient", "leave the patient out")
    if (patches is None or genes is None) and not config.missing:
        lacking = "slides" if patches is None else "genes"
        hint = "train with train.modality_dropout above 0, or leave the patient out"
        raise DataError(f"no {lacking}, and the model was trained on patients with both", "the patient", hint)
    if patches is not None:
        check_bag(patches, config.features, "the patient's bag")
    if genes is not None and tuple(genes.shape) != (len(config.genes),):
        what = f"{tuple(genes.shape)} expression values, not ({len(config.genes)},)"
        raise DataError(what, "the patient's genes", "give the genes of the model's config, in its order")
    return patches, genes


def check_bag(patches: Tensor, width: int, where: str) -> None:
    """Refuse a bag that is not (N >= 1, width) or holds a NaN or an infinity."""
    if patches.ndim != 2 or patches.shape[1] != width:
        what = f"features of shape {tuple(patches.shape)}, not (N, {width})"
        raise DataError(what, where, "extract all slides with one encoder")
    if len(patches) == 0:
        raise DataError("a bag without a patch", where, "drop the slide, or extract it again")
    if not finite(patches):
        row = int((~patches.isfinite()).any(dim=1).nonzero()[0, 0])
        raise DataError(f"row {row} of the features is NaN or infinite", where, "extract the slide again")


def survival_column(months: float) -> str:
    """The column of S(months) in a predictions file: S_12, S_36, S_0.5."""
    return f"S_{months:g}"


def subtype_column(name: str) -> str:
    """The column of the probability of a subtype in a predictions file."""
    return f"P_{name}"


def covariate_row(given: Mapping[str, float | None], names: Sequence[str], where: str) -> Tensor:
    """(V,) float32 of these covariates in their order, NaN where missing.

    Raises DataError for a covariate that is not named, or is infinite.
    """
    for name in names:
        value = given.get(name, math.inf)
        if value is not None and math.isinf(value):
            what = f"covariate {name!r} is " + ("infinite" if name in given else "not there")
            hint = did_you_mean(name, given) if given else f"give {', '.join(names)} (new patients: in clinical.csv)"
            raise DataError(what, where, f"{hint}; a missing value is null")
    values = [given[name] for name in names]
    return torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float32)
