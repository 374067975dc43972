"""The first weights of a training run that continues a trained network, and the layers that it changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mcti.dataset.bags import PatientBag
from mcti.dataset.scaling import scale_axes
from mcti.model.comparators import Comparator
from mcti.model.network import MCTI
from mcti.model.presets import ModelConfig
from mcti.model.trained import Fitted
from mcti.model.weight_transfer import copy_weights

_BRANCHES = ("pathology.", "genomics.")
_HEADS = ("survival_head.", "subtype_head.", "pathology.instance.", "clinical.")


@dataclass(frozen=True)
class Start:
    """Weights of a trained network, and which of them further training changes.

    config, tensors  the trained network
    trained          frozen: the heads alone; partial: all but the branches of slides and genes; full: all
    slides           whether its patch features are those of the training part (one encoder)

    Tensors that cannot be copied start as without a trained network and are always trained.
    """

    config: ModelConfig
    tensors: Mapping[str, Tensor]
    trained: str = "full"
    slides: bool = True

    def apply(self, net: MCTI | Comparator, bags: Sequence[PatientBag], fitted: Fitted) -> None:
        """Copy the weights, scale the axes to unit variance in the training part, and fix what is not trained.

        Raises DataError when the architectures differ
        """
        copied = set(self.copy_into(net))
        scale_axes(net.axes, bags, fitted)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name not in copied or self._trains(name))

    def copy_into(self, net: MCTI | Comparator) -> tuple[str, ...]:
        """Copy the weights alone; the names of the tensors that were copied."""
        return copy_weights(net, self.tensors, self.config, slides=self.slides)

    def _trains(self, name: str) -> bool:
        if self.trained == "full" or name.startswith(_HEADS):
            return True
        return self.trained == "partial" and not name.startswith(_BRANCHES)
