"""What is to be evaluated: a split, and the shifts that the predictions should survive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regrow.core.errors import RegrowError, choose
from regrow.train.data import DATASETS, Data
from regrow.train.data.corruptions import EXTRA, SEVERITIES, STANDARD

NOISE = "noise"
USUAL = "usual"
PARTNERS: Mapping[str, tuple[str, ...]] = {
    "cifar10": ("cifar100", "svhn", NOISE),
    "cifar100": ("cifar10", "svhn", NOISE),
    "fashion_mnist": ("mnist", "not_mnist", NOISE),
    "mnist": ("fashion_mnist", "not_mnist", NOISE),
}
"""Which data are usually told apart from a data set; others from noise."""


@dataclass(frozen=True)
class Asked:
    """Args:
    split: "test" or "val"; nothing is ever chosen by "test".
    ood: data sets to be told apart, "noise" among them, or "usual": what is in `PARTNERS`.
    corruptions: evaluate on CIFAR-C's kinds at five severities, or on fewer:
    kinds, severities: of corruptions.
    adversarial: evaluate under FGSM and PGD.
    eps: the attacks' radius in L-infinity, as a share of the pixel range.
    analyses: look into the networks too: units, gradients, curvature, landscape.
    """

    split: str = "test"
    ood: tuple[str, ...] = ()
    corruptions: bool = False
    kinds: tuple[str, ...] = (*STANDARD, *EXTRA)
    severities: tuple[int, ...] = SEVERITIES
    adversarial: bool = False
    eps: float = 8 / 255
    analyses: bool = False

    def __post_init__(self) -> None:
        valid = {name: name for name in (*DATASETS, NOISE, USUAL)}
        for name in self.ood:
            form = "npz" if name.endswith(".npz") else name.partition(":")[0]
            choose(valid, form, "out-of-distribution data set")
        kinds = {kind: kind for kind in (*STANDARD, *EXTRA)}
        for kind in self.kinds:
            choose(kinds, kind, "corruption")
        if not 0 <= self.eps <= 1:
            raise RegrowError(f"eps = {self.eps}: give a share of the pixel range, such as {8 / 255:.4f} for 8/255")

    def outside(self, data: Data) -> list[str]:
        """The names of the other data sets, without repetition.

        Raises:
            RegrowError: the data set itself is among them.
        """
        usual = PARTNERS.get(data.name, (NOISE,))
        names = [n for name in self.ood for n in (usual if name == USUAL else (name,))]
        if data.name in names:
            raise RegrowError(f"{data.name!r} is what the model was trained on: it is not outside. Take another --ood")
        return list(dict.fromkeys(names))
