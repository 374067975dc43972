"""The loss of a step, one term per patient; also for split steps and for losses that compare patients."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag
from mcti.dataset.batches import Batch
from mcti.dataset.time_bins import shares_before
from mcti.model.network import Prediction
from mcti.model.presets import ModelConfig
from mcti.model.trained import Fitted
from mcti.params import TrainParams
from mcti.training import losses

TERMS = ("loss", "survival", "subtype", "instance")

Forward = Callable[..., Prediction]
"""A network, with the arguments of `MCTI.forward`."""
PairTerms = Callable[[Tensor], Tensor]
"""Risks (b,) of the patients in memory -> their terms (b,) of a loss that compares patients."""


class Objective:
    """Weighted sum of the survival, subtype and instance losses of a training part (docs/training.md)."""

    def __init__(
        self, bags: Sequence[PatientBag], fitted: Fitted, config: ModelConfig, params: TrainParams, device: torch.device
    ) -> None:
        self.fitted, self.config, self.params, self.device = fitted, config, params, device
        subtypes = torch.tensor([bag.subtype for bag in bags])
        self.entry_months = {bag.patient_id: bag.entry_months for bag in bags}
        self.weights = losses.class_weights(subtypes, len(config.classes)).to(device)

    @property
    def compares(self) -> bool:
        """Whether the survival loss compares patients with one another."""
        return self.params.survival_loss != "nll"

    def __call__(self, net: Forward, batch: Batch, pairs: PairTerms | None) -> dict[str, Tensor]:
        """The terms of a batch by name, one per patient; `loss` is their weighted sum, `risk` is the prediction."""
        params, config = self.params, self.config
        output = self.forward(net, batch)
        survival = self.likelihood(output.hazard_logits, batch)
        if pairs is not None:
            survival = survival + pairs(output.risk)
        subtype = losses.subtype_terms(output.subtype_logits, batch.subtypes, self.weights)
        instance = losses.subtype_terms(output.instance_logits, batch.subtypes, self.weights) * batch.slides_present
        if config.hard_negatives:
            instance = instance + losses.hard_negative_terms(
                output.critical_logits, output.critical >= 0, batch.subtypes, config.hard_negatives
            )
        total = params.lambda_survival * survival + params.lambda_subtype * subtype + params.lambda_instance * instance
        return {**dict(zip(TERMS, (total, survival, subtype, instance), strict=True)), "risk": output.risk}

    def forward(self, net: Forward, batch: Batch) -> Prediction:
        """The network's output for a batch, in the precision of the settings; logits and risk are always float32."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.params.precision)
        flags: dict[str, Tensor] = {}
        if self.config.missing:
            flags = {"slides_present": batch.slides_present, "genes_present": batch.genes_present}
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            output: Prediction = net(batch.patches, batch.mask, batch.genes, covariates=batch.covariates, **flags)
        return output

    def likelihood(self, logits: Tensor, batch: Batch) -> Tensor:
        """The censored negative log-likelihood that belongs to the head, conditional on survival to the entry, (b,)."""
        edges, alpha, before = self.fitted.edges, self.params.alpha, None
        if batch.entries is not None:
            before = shares_before(batch.entries.cpu(), edges).to(logits)
        if self.config.head == "continuous":
            return losses.piecewise_nll(logits, batch.times, batch.events, edges, alpha, before)
        return losses.discrete_nll(logits, batch.bins, batch.events, alpha, before)

    def pair_terms(self, risk: Tensor, bags: Sequence[PatientBag], memory: Mapping[str, tuple[float, float]]) -> Tensor:
        """Terms (b,) of the loss that compares `bags`, whose risks are (b,), with one another and with the memory.

        memory: {patient_id: (risk, months)} of patients of previous steps, as constants. They are at risk until
        the end of their follow-up; their events were counted in their own step, so they count as censored.
        """
        current = {bag.patient_id for bag in bags}
        old = [pair for patient, pair in memory.items() if patient not in current]
        risks = torch.cat([risk, risk.new_tensor([pair[0] for pair in old])])
        times = torch.tensor([*(bag.time_months for bag in bags), *(pair[1] for pair in old)], device=risk.device)
        events = torch.tensor([*(bag.event for bag in bags), *([False] * len(old))], device=risk.device)
        months = [
            *(bag.entry_months for bag in bags),
            *(self.entry_months[name] for name in memory if name not in current),
        ]
        entries = torch.tensor(months, device=risk.device) if any(months) else None
        if self.params.survival_loss == "cox":
            return losses.cox_terms(risks, times, events, self.params.cox_ties, entries)[: len(bags)]
        return losses.ranking_terms(risks, times, events, entries)[: len(bags)]

    def pair_surrogate(
        self, risk: Tensor, bags: Sequence[PatientBag], memory: Mapping[str, tuple[float, float]]
    ) -> tuple[Tensor, Tensor]:
        """Terms (b,) of all patients of a step, and the gradient (b,) of their sum with respect to each risk.

        Both together give the share of a part in the exact gradient without the other patients in memory:
        term + slope · (risk - risk as a constant) has the term's value and the sum's gradient.
        """
        constant = risk.detach().clone().requires_grad_()
        terms = self.pair_terms(constant, bags, memory)
        (slope,) = torch.autograd.grad(terms.sum(), constant)
        return terms.detach(), slope
