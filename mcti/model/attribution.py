"""Attribution of a patient's risk to tiles, genes, covariates and tokens by integrated gradients (docs/explain.md).

Some operations of the network are discrete selections (critical patches, plans). They have no gradient and change
abruptly, so gradients on a path through them would not explain the risk. Therefore the patient's own selections are
held constant: the critical patches, the mass that each patch sends to them, every plan and coupling. The remaining
function is smooth and equals the network at the patient's inputs. Its integrated gradients sum to the risk minus the
baseline, up to the error of the numerical integration (`gap`).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mcti.errors import UsageError
from mcti.model.categories import CovariateValue
from mcti.model.guidance import Coupler, Coupling, GuidedAttention
from mcti.model.hazards import hazard_and_survival
from mcti.model.member_predictions import StackedModels
from mcti.model.network import MCTI, Prediction, Tokens
from mcti.model.pathology import PathologyOutput, focus_weights
from mcti.model.trained import TrainedModel, single_thread
from mcti.model.unet import SURV, mean_token
from mcti.model.unit_vectors import unit

FIRST_POINTS = 16
"""Points of the first Gauss-Legendre rule. The number is doubled while the gap is above GAP_SHARE."""
GAP_SHARE = 0.005
"""Largest completeness gap that needs no more points, as a share of risk minus baseline."""
_POINTS = 32
"""Points of the path per forward pass; limits the memory of the large preset."""


@dataclass(frozen=True)
class Attribution:
    """Parts of one patient's risk under one model; each part is in units of risk, positive = earlier event.

    risk, baseline  of the patient; and of the baseline, without tiles and with genes and covariates at the training
                    mean, under the same selections of the network
    tiles           (N,) one per tile, in the order of the bag; empty without slides
    genes           (G,) one per gene, in the order of the model
    covariates      (V,) one per column of `config.clinical_columns`
    tokens          token -> part, along the same path: patch_0 …, carried_0 …, gene_0 …, clinical, and the
                    paths past the U-Net mean_patch, focus (the mean critical patch) and covariates, and linear_slides
                    and linear_genes of the ridge Cox model of the ensemble (mcti/model/cox_branch.py)
    critical        (K',) row in the bag of patch token k
    shares          (N, K') mass that tile i gave to patch token k; a row sums to 1
    plan            (K', T) mass between patch and gene tokens
    groups          (T, G) weight of gene i in gene token t; a row sums to 1
    """

    risk: float
    baseline: float
    tiles: Tensor
    genes: Tensor
    covariates: Tensor
    tokens: Mapping[str, float]
    critical: Tensor
    shares: Tensor
    plan: Tensor
    groups: Tensor

    @property
    def modalities(self) -> dict[str, float]:
        """Part of each modality, in the unit of the risk: the sum of the parts of its inputs."""
        return {
            "slides": float(self.tiles.sum()),
            "genes": float(self.genes.sum()),
            "clinical": float(self.covariates.sum()),
        }

    @property
    def gap(self) -> float:
        """Completeness gap, in the unit of the risk: risk - baseline - sum of the parts; 0 for an exact integral."""
        return self.risk - self.baseline - sum(self.modalities.values())


def attribute(
    model: TrainedModel,
    patches: Tensor | None,
    genes: Tensor | None,
    covariates: Mapping[str, CovariateValue] | None = None,
    *,
    steps: int = 64,
) -> Attribution:
    """Integrated gradients of a patient's risk (Sundararajan et al. 2017, ICML, equation 1), Gauss-Legendre rule.

    patches (N, F), genes (G,), covariates as in `TrainedModel.predict`; steps: largest number of points on the path.
    The parts of tokens are conductances (Dhamdhere et al. 2019, ICLR): the gradient at the token times its derivative
    along the same path, so that their sum is also risk - baseline. Computed in float64, on one thread. The gradient
    jumps where a ReLU of the token layers changes its side; the number of points is doubled from 16 while the gap is
    above 0.5 % of risk - baseline.

    Raises UsageError when the network is a comparator
    Raises DataError as `TrainedModel.predict`
    """
    if not isinstance(model.net, MCTI):
        what = f"the network is {model.config.network}, which this explanation does not support"
        raise UsageError(what, "the model", "explain a model of the presets compact or paper")
    assert isinstance(model.double_net, MCTI)
    inputs = model.inputs(patches, genes, covariates)
    return _attributions(model.net, model.double_net, inputs, has_genes=genes is not None, steps=steps)[0]


def attribute_members(
    members: StackedModels,
    patches: Tensor | None,
    genes: Tensor | None,
    covariates: Mapping[str, CovariateValue] | None = None,
    *,
    steps: int = 64,
) -> dict[str, Attribution]:
    """`attribute` of each member of an ensemble, in one pass: {name: attribution}.

    patches (N, F), genes (G,), other arguments and errors as there.
    """
    inputs = members.inputs(patches, genes, covariates)
    parts = _attributions(members.net, members.double_net, inputs, has_genes=genes is not None, steps=steps)
    return dict(zip(members.models, parts, strict=True))


@single_thread()
def _attributions(
    net: MCTI, double: MCTI, inputs: Mapping[str, Tensor], *, has_genes: bool, steps: int
) -> list[Attribution]:
    """The attribution of each member; net, double: the members as one network, in both precisions; inputs (M, …)."""
    with torch.no_grad():
        prediction = net(**inputs, details=True)
    path = _Path(net, double, inputs, prediction)
    risks, baselines = path.at(1.0), path.at(0.0)
    integral = path.to_completeness(risks - baselines, steps)
    shares, tiles = path.tiles(integral.gradients)
    genes = path.genes(integral.gradients) if has_genes else torch.zeros(inputs["genes"].shape)
    no_covariates = torch.zeros(path.members, 0)
    covariates = path.part("covariates", integral.gradients) if "covariates" in path.ends else no_covariates
    groups = _groups(path.net, path.ends["genes"], prediction.gene_groups)
    present = path.mined.critical[0] >= 0
    return [
        Attribution(
            risk=float(risks[member]),
            baseline=float(baselines[member]),
            tiles=tiles[member],
            genes=genes[member],
            covariates=covariates[member],
            tokens=path.named(integral.tokens, member),
            critical=path.mined.critical[member][present],
            shares=shares[member],
            plan=path.plan[member][present],
            groups=groups[member],
        )
        for member in range(path.members)
    ]


@dataclass(frozen=True)
class _Integral:
    """Mean gradient along the path by input, {name: (M, …)}, and the part of each token, {name: (M, tokens)}."""

    gradients: dict[str, Tensor]
    tokens: dict[str, Tensor]


class _Path:
    """The network on the straight line from the baseline to one patient, with the selections of that patient.

    M members at once (mcti/model/members.py): p points of the path are M·p rows of the network.
    """

    def __init__(self, net: MCTI, double: MCTI, inputs: Mapping[str, Tensor], prediction: Prediction) -> None:
        self.net, self.inputs, self.members = double, inputs, len(inputs["patches"])
        self.present = {name: inputs.get(f"{name}_present") for name in ("slides", "genes")}
        with torch.no_grad():
            self.rows, genes = self.net.axes(inputs["patches"].double(), inputs["genes"].double())
            self.mined = net.pathology(net.axes(inputs["patches"], inputs["genes"])[0], inputs["mask"])
        self.mined = PathologyOutput(**{name: _double(value) for name, value in vars(self.mined).items()})
        if self.net.absent is not None and self.present["slides"] is not None and not bool(self.present["slides"][0]):
            self.mined.critical = torch.full_like(self.mined.critical, -1)
        self.plan, self.couplings = prediction.gene_plan.double(), prediction.couplings or []
        self.weight = float(self.net.pathology.patch_weight(self.mined.present, inputs["mask"])[0])
        skip = self.net.survival_head.linear_skip
        average = self.mined.average
        self.sd = torch.ones(self.members, 1)
        if (
            skip is not None
        ):  # with the statistics of its norm held constant, the input of the path is linear in the tiles
            self.sd = (average.var(1, correction=0, keepdim=True) + skip.norm.eps).sqrt()
            average = skip.norm(average)
        self.ends: dict[str, Tensor] = {"sums": self.mined.sums, "mean": average, "genes": genes}
        self.ends["focus"] = self.mined.focus
        if inputs.get("covariates") is not None:
            self.ends["covariates"] = inputs["covariates"].double()
        self.cox_parts = _cox_parts(self.net, inputs)
        self.ends |= {f"linear_{name}": values.sum(1, keepdim=True) for name, values in self.cox_parts.items()}

    def at(self, share: float) -> Tensor:
        """Risk of each member (M,) at the point `share` (0 to 1) of the path."""
        with torch.no_grad():
            return self._risk(*self._tokens(self._inputs(torch.tensor([share]))))

    def to_completeness(self, ways: Tensor, steps: int) -> _Integral:
        """The integral with the fewest points whose gap is small for every member; ways (M,) risk - baseline."""
        points = min(FIRST_POINTS, steps)
        while True:
            integral = self.integrate(points)
            gaps = (ways - sum(self.part(name, integral.gradients).flatten(1).sum(1) for name in self.ends)).abs()
            if points == steps or bool((gaps <= GAP_SHARE * ways.abs()).all()):
                return integral
            points = min(2 * points, steps)

    def integrate(self, points: int) -> _Integral:
        """The Gauss-Legendre rule of this number of points: exact for polynomials up to degree 2 points - 1."""
        gradients = {name: torch.zeros_like(end) for name, end in self.ends.items()}
        tokens: dict[str, Tensor] = {}
        nodes, weights = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(points))
        for start in range(0, points, _POINTS):
            chosen, shares = weights[start : start + _POINTS] / 2, (nodes[start : start + _POINTS] + 1) / 2
            velocities = self._velocities(shares)
            inputs = {name: value.requires_grad_() for name, value in self._inputs(shares).items()}
            _, parts = arguments = self._tokens(inputs)
            variables = [*inputs.values(), *parts.values()]
            gradient = torch.autograd.grad(self._risk(*arguments).sum(), variables, allow_unused=True)
            slopes = [torch.zeros_like(w) if g is None else g for w, g in zip(variables, gradient, strict=True)]
            for name, slope in zip(inputs, slopes, strict=False):
                gradients[name] += self._sum(slope, chosen)
            for name, slope in zip(parts, slopes[len(inputs) :], strict=True):
                part = self._sum((slope * velocities[name]).sum(-1), chosen)
                tokens[name] = tokens.get(name, torch.zeros_like(part)) + part
        return _Integral(gradients, tokens)

    def _sum(self, values: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum over the points: (M·p, …), (p,) -> (M, …)."""
        by_member = values.view(self.members, len(weights), *values.shape[1:])
        return (by_member * weights.view(-1, *[1] * (values.ndim - 1))).sum(1)

    def _velocities(self, shares: Tensor) -> dict[str, Tensor]:
        """Derivative of each token by the position on the path at the points `shares` (p,), shapes as `_tokens`.

        The product of the derivatives with any weights is linear in the weights, so that its gradient by the weights is
        the derivatives. (Forward-mode differentiation would compile parts of torch first, for seconds.)
        """
        position = shares.clone().requires_grad_()
        parts = self._tokens(self._inputs(position))[1]
        weights = {name: torch.zeros_like(part, requires_grad=True) for name, part in parts.items()}
        # One sum: for weights as gradients of several outputs PyTorch would import sympy, which takes a second.
        total = torch.stack([(part * weights[name]).sum() for name, part in parts.items()]).sum()
        product = torch.autograd.grad(total, position, create_graph=True)[0]
        gradients = torch.autograd.grad(product.sum(), [*weights.values()], allow_unused=True)
        derivatives = zip(parts, gradients, strict=True)
        return {name: torch.zeros_like(parts[name]) if by is None else by for name, by in derivatives}

    def part(self, name: str, gradients: Mapping[str, Tensor]) -> Tensor:
        """Gradient times change of an input (M, …), in units of risk."""
        return gradients[name] * self.ends[name].nan_to_num(0.0)

    def genes(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """The part of each gene (M, G)."""
        parts, directions = self.part("genes", gradients), self.net.axes.genes
        if directions is not None:  # the axes are linear: the part of an axis is the sum over its genes
            parts = (gradients["genes"][:, None] @ directions)[:, 0] * self.inputs["genes"].double()
        return parts + gradients["linear_genes"] * self.cox_parts["genes"] if self.cox_parts else parts

    @torch.no_grad()
    def tiles(self, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Shares (M, N, K') of the mass, and the part (M, N) of each tile; both empty without slides."""
        present = self.mined.critical[0] >= 0
        if not bool(present.any()):
            return torch.zeros(self.members, 0, 0).double(), torch.zeros(self.members, 0).double()
        branch, shares, blocks = self.net.pathology, [], []
        to_sums, to_mean, to_focus = (gradients[name] for name in ("sums", "mean", "focus"))
        if self.net.survival_head.linear_skip is not None:
            to_mean = (to_mean - to_mean.mean(1, keepdim=True)) / self.sd
        for start in range(0, self.rows.shape[1], branch.block):
            rows = self.rows[:, start : start + branch.block]
            masses = branch.masses(rows, self.mined.keys, self.mined.present)  # (M, block, K)
            contributed = (masses * (unit(rows, -1) @ to_sums.mT)).sum(2) * self.weight
            blocks.append(contributed + (rows @ to_mean[..., None])[..., 0] / self.rows.shape[1])
            shares.append(masses[..., present])
        parts, critical = torch.cat(blocks, 1), self.mined.critical[:, present]
        weights = focus_weights(self.mined.scores, self.mined.critical >= 0)[:, present]
        chosen = self.rows.gather(1, critical[..., None].expand(-1, -1, self.rows.shape[2]))
        parts.scatter_add_(1, critical, weights * (chosen @ to_focus[..., None])[..., 0])
        if self.cox_parts:
            parts += gradients["linear_slides"] * self.cox_parts["slides"]
        return torch.cat(shares, 1), parts

    def _inputs(self, shares: Tensor) -> dict[str, Tensor]:
        """Each input at the points `shares` (p,) of the path: (M·p, …); a missing covariate remains missing."""
        return {
            name: (shares.double().view(-1, *[1] * (end.ndim - 1)) * end[:, None]).flatten(0, 1)
            for name, end in self.ends.items()
        }

    def _tokens(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Which patch tokens are present, and the tokens: each (M·p, tokens, D), the linear paths (M·p, 1, columns)."""
        net, points = self.net, len(inputs["sums"]) // self.members
        mined = dataclasses.replace(self.mined, **{k: _copies(v, points) for k, v in vars(self.mined).items()})
        mined.tokens = net.pathology.tokens_of(inputs["sums"], mined.present)
        mined.average, mined.focus = inputs["mean"], inputs["focus"]
        gene_tokens, _ = net.genomics(inputs["genes"])
        if net.absent is not None:
            flags = [None if flag is None else _copies(flag, points) for flag in self.present.values()]
            mined, gene_tokens = net.absent(mined, gene_tokens, *flags)
        parts = {"patch": mined.tokens, "carried": _copies(self.plan, points).transpose(1, 2) @ mined.tokens}
        parts |= {"gene": gene_tokens, "mean_patch": mined.average[:, None], "focus": mined.focus[:, None]}
        if net.clinical is not None:
            clinical, read = net.clinical(inputs["covariates"])
            parts |= {"clinical": clinical, "covariates": read[:, None]}
        parts |= {name: values[:, None] for name, values in inputs.items() if name.startswith("linear_")}
        parts["patch"] = parts["patch"].clone()  # a separate node of the graph: without the path through the plan
        return mined.present, parts

    def _risk(self, present: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        """Risk (M·p,) of the tokens."""
        net, clinical = self.net, parts.get("clinical")
        values = net.sequence(parts["patch"], parts["carried"], parts["gene"], clinical)
        tokens = Tokens(values, net.joint_mask(present, clinical), self.plan)
        x, streams, mask = net.streams(tokens)
        with _fixed_couplings(net, self.couplings):
            streams, _ = net.unet(x, streams, mask)
        read = None if clinical is None else parts["covariates"][:, 0]
        mean = mean_token(streams, mask)[SURV]
        logits = net.survival_head.decide(mean, parts["mean_patch"][:, 0], parts["focus"][:, 0], parts["gene"], read)
        if net.cox_branch is not None:
            scores = parts["linear_slides"][:, 0, 0] + parts["linear_genes"][:, 0, 0]
            logits = net.cox_branch(logits, scores if read is None else scores + net.cox_branch.clinical(read))
        return -hazard_and_survival(logits, net.config.head)[1].sum(1)

    def named(self, tokens: Mapping[str, Tensor], member: int) -> dict[str, float]:
        """Parts of one member by the name of the token, without absent patch tokens."""
        patches = int((self.mined.critical[0] >= 0).sum())
        named: dict[str, float] = {}
        for name, parts in tokens.items():
            values = parts[member].tolist()
            if name in ("patch", "carried", "gene"):
                count = patches if name == "patch" else len(values)
                named |= {f"{name}_{k}": values[k] for k in range(count)}
            else:
                named[name] = values[0]
        return named


@dataclass(frozen=True)
class _FixedCoupler(Coupler):
    """A coupler that returns a fixed coupling, repeated for each point of a path."""

    kept: Coupling | None = None

    def __call__(self, guides: Tensor, values: Tensor, mask: Tensor | None) -> Coupling:
        """The fixed coupling; on the flat axis (S·b) the streams are the outer index."""
        assert self.kept is not None
        points = len(guides) // len(self.kept.guides)
        return Coupling(self.kept.plan.repeated(points), guides, values, mask, self)


@contextmanager
def _fixed_couplings(net: MCTI, couplings: list[Coupling]) -> Iterator[None]:
    """Make the guided attentions of `net` use these couplings, in order, while the body runs."""
    guided = [module for module in net.unet.modules() if isinstance(module, GuidedAttention)]
    layers = [module for module in guided if module.coupler is not None]
    before = [layer.coupler for layer in layers]
    try:
        for layer, coupling in zip(layers, couplings, strict=True):
            layer.coupler = _FixedCoupler(**vars(layer.coupler), kept=coupling)
        yield
    finally:
        for layer, coupler in zip(layers, before, strict=True):
            layer.coupler = coupler


def _cox_parts(net: MCTI, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Log hazard ratio that the Cox branch adds for each tile (M, N) and gene (M, G); empty without that branch."""
    if net.cox_branch is None:
        return {}
    rows, genes = inputs["patches"].double(), inputs["genes"].double()
    return {"slides": net.cox_branch.tiles(rows), "genes": net.cox_branch.limited(genes) * net.cox_branch.genes}


def _groups(net: MCTI, genes: Tensor, weights: Tensor | None) -> Tensor:
    """(M, T, G): the weights of the grouping. The dense branch has none: its weights are the sensitivity of the token's
    length to each gene, |d length / d gene|, normalised to sum 1."""
    if weights is not None:
        return weights.double()
    variable = genes.clone().requires_grad_()
    lengths = net.genomics(variable)[0].norm(dim=-1)  # (M, T)
    sensitivities = torch.stack(
        [torch.autograd.grad(length, variable, retain_graph=True)[0].abs() for length in lengths.sum(0)], 1
    )
    return net.axes.by_gene(sensitivities / sensitivities.sum(-1, keepdim=True).clamp_min(1e-300))


def _copies(value: Tensor, points: int) -> Tensor:
    """(M, …) for each of `points` points of the path, (M·p, …)."""
    return value if points == 1 else value.repeat_interleave(points, 0)


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value
