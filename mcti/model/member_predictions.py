"""Risk and survival of one patient by several trained models in one forward pass (mcti/model/members.py)."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from mcti.model.categories import CovariateValue
from mcti.model.members import can_be_stacked, stack
from mcti.model.network import MCTI
from mcti.model.trained import TrainedModel, single_thread


class StackedModels:
    """Trained models of one configuration, by name, as one network.

    The same weights, patient and processor type give the same bits in every process, as for a single model; the
    numbers of a member differ from those of `TrainedModel.predict` in the last digits.
    """

    def __init__(self, models: Mapping[str, TrainedModel]) -> None:
        self.models = dict(models)
        self.net = stack([model.net for model in models.values() if isinstance(model.net, MCTI)])

    @classmethod
    def of(cls, models: Mapping[str, TrainedModel]) -> "StackedModels | None":
        """The models as one network; None where `can_be_stacked` is false for them."""
        return cls(models) if can_be_stacked([model.net for model in models.values()]) else None

    @cached_property
    def double_net(self) -> MCTI:
        """The network in float64, for attributions."""
        return copy.deepcopy(self.net).double()

    @single_thread()
    def predict(
        self,
        patches: Tensor | None,
        genes: Tensor | None,
        horizons_months: Sequence[float],
        covariates: Mapping[str, CovariateValue] | None = None,
    ) -> dict[str, dict[str, float]]:
        """`TrainedModel.predict` of each model, {name: {risk, S_<months>…}}; arguments and errors as there."""
        with torch.inference_mode():
            output = self.net(**self.inputs(patches, genes, covariates))
        return {
            name: model.row(output.survival[row : row + 1], output.risk[row : row + 1], horizons_months)
            for row, (name, model) in enumerate(self.models.items())
        }

    def inputs(
        self, patches: Tensor | None, genes: Tensor | None, covariates: Mapping[str, CovariateValue] | None
    ) -> dict[str, Tensor]:
        """The inputs of the network, M rows: the patient as each member standardises them."""
        rows = [model.inputs(patches, genes, covariates) for model in self.models.values()]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
