"""DSA: gradient matching with differentiable siamese augmentation.

Zhao & Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021 (arXiv
2102.08259), in the form of the authors' program. DC (dc.py) with

    L = sum_c D( grad_theta CE(net, A(S_c)), grad_theta CE(net, A(T_c)) )

where A is one family of augmentations, drawn anew for each class and step, with the same parameters
for real and synthetic images; and the network is trained on the coreset with augmentation as well.
"""

from dataclasses import dataclass

from distill_cli.methods import dc
from distill_cli.methods.base import Setting

ALLOWS = dc.ALLOWS


@dataclass(frozen=True)
class Config(dc.Config):
    """As DC; augmentation: families of augment.dsa joined by _, none, or auto (all, without flip on
    digits: MNIST, SVHN and their like)."""

    name: str = "dsa"
    augmentation: str = "auto"


def make(setting: Setting) -> dc.DC:
    """DSA bound to a setting."""
    return dc.make(setting)
