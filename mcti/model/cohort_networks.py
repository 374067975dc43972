"""The networks of several cohorts that share all weights but the heads of subtypes and the hazard intercepts."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mcti.model.comparators import Comparator, build
from mcti.model.network import MCTI, Prediction
from mcti.model.presets import ModelConfig
from mcti.model.weight_transfer import cohort_tensors


class CohortNetworks(nn.Module):
    """One network per cohort: shared layers, and per cohort the tensors of `cohort_tensors`.

    configs  of each cohort by name; they differ in their subtypes alone
    hazards  (B,) of each cohort, near which the predicted hazards start
    """

    def __init__(self, configs: Mapping[str, ModelConfig], hazards: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.shared = build(next(iter(configs.values())))
        self.own_names = cohort_tensors(self.shared.config)
        for name in self.own_names:
            _remove(self.shared, name)
        self.own_weights = nn.ModuleDict()
        self._keys = {name: name.replace(".", "/") for name in sorted(self.own_names)}
        self._networks: dict[str, MCTI | Comparator] = {}  # a dict is no submodule: their weights are those above
        for number, (cohort, config) in enumerate(configs.items()):
            net = build(config)
            net.init_hazard(hazards[cohort])
            tensors = dict(net.named_parameters())
            weights = {key: tensors[name].detach().clone() for name, key in self._keys.items()}
            self.own_weights[str(number)] = nn.ParameterDict(weights)
            self._networks[cohort] = net
            self._tie(cohort)

    def own_tensors(self, cohort: str) -> dict[str, nn.Parameter]:
        """The weights of one cohort, by their names in its network."""
        stored = self.own_weights[str(list(self._networks).index(cohort))]
        assert isinstance(stored, nn.ParameterDict)
        return {name: stored[key] for name, key in self._keys.items()}

    def shared_tensors(self) -> dict[str, Tensor]:
        """The weights and axes that all cohorts use, by name; each has its shape in the network of a cohort."""
        return {**dict(self.shared.named_parameters()), **dict(self.shared.named_buffers())}

    def forward(self, cohort: str, *inputs: Tensor, **flags: Any) -> Prediction:
        """The prediction for patients of one cohort; arguments as in `MCTI.forward`."""
        self._tie(cohort)
        out: Prediction = self._networks[cohort].train(self.training)(*inputs, **flags)
        return out

    def _tie(self, cohort: str) -> None:
        """Let the network of a cohort use the weights of this module; moving it to a device replaces its buffers.

        The backward pass recomputes parts of the network, so that the weights must be those of a module and not only
        arguments of the forward pass.
        """
        net = self._networks[cohort]
        for name, tensor in {**self.shared_tensors(), **self.own_tensors(cohort)}.items():
            owner, _, attribute = name.rpartition(".")
            setattr(net.get_submodule(owner), attribute, tensor)


def _remove(net: nn.Module, name: str) -> None:
    """Remove a parameter from a network that does not use it."""
    owner, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(owner), attribute, None)
