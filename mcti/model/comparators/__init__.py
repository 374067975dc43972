"""Published networks that MCTI is compared with, with the same signature, training loop and inputs.

Each implements the formulas of its paper at the width of its preset (mcti/params/variants.py). Survival head, handling
of missing modalities and covariates are those of MCTI, so that a difference in C is due to the architecture.
"""

from mcti.model.comparators.base import Comparator
from mcti.model.comparators.fusion import MCAT, LateFusion, MOTCat
from mcti.model.comparators.genes import SNN
from mcti.model.comparators.pooling import ABMIL, MeanPool
from mcti.model.comparators.transmil import TransMIL
from mcti.model.network import MCTI
from mcti.model.presets import ModelConfig

__all__ = ["ABMIL", "MCAT", "SNN", "Comparator", "LateFusion", "MOTCat", "MeanPool", "TransMIL", "build"]

_NETWORKS: dict[str, type[Comparator]] = {
    "snn": SNN,
    "mean_pool": MeanPool,
    "abmil": ABMIL,
    "transmil": TransMIL,
    "late_fusion": LateFusion,
    "mcat": MCAT,
    "motcat": MOTCat,
}


def build(config: ModelConfig) -> MCTI | Comparator:
    """The network of this configuration, with fresh weights."""
    return MCTI(config) if config.network == "mcti" else _NETWORKS[config.network](config)
