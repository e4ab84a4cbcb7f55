"""Finite networks that are trained: in FRePo's pool, by gradient matching, and for evaluation.

    net = build("convnet", 10, (32, 32, 3))
    variables = net.init(key, images)                       # {"params"} and, with norm=batch,
    logits = net.apply(variables, images)                   # {"batch_stats"}; running statistics
    phi = net.apply(variables, images, method="features")   # (n, d), what the read-out reads
    logits, new = net.apply(variables, images, train=True, mutable=["batch_stats"])

All parameters and activations are float32; a network is hashable, equal networks are equal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from distill_cli.errors import UserError, choice_error
from distill_cli.nets.bodies import (
    MLP,
    VGG,
    AlexNet,
    ConvNet,
    DoublingConvNet,
    KIPConvNet,
    LeNet,
    ResNet18,
)
from distill_cli.nets.layers import ACTIVATIONS, GROUPS, NORMS, POOLINGS, Dense, Style

__all__ = ["NETWORKS", "NORMS", "POOLINGS", "Net", "build"]


class Net(nn.Module):
    """A body and a fully connected read-out to `classes` outputs. Parameters: body, readout."""

    body: nn.Module
    classes: int
    init_readout: str

    def setup(self) -> None:
        self.readout = Dense(self.classes, self.init_readout)

    def features(
        self, x: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n feature"]:
        """What the read-out reads."""
        body: Any = self.body
        return body(x, train)

    def __call__(
        self, x: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n classes"]:
        return self.readout(self.features(x, train))


@dataclass(frozen=True)
class Plan:
    """How a name is built: the body, its defaults, and the initial weights of the read-out.

    width: of the first layer (compat_width: with compat); deep: whether depth means something;
    norms: whether another norm than none is possible; readout: initial weights of the read-out
    (None: as init); momentum: of running statistics; least: pixels a side that an image must have.
    """

    body: Callable[[Style, int, int, bool], nn.Module]  # (style, width, depth, compat)
    width: int = 128
    compat_width: int | None = None
    deep: bool = False
    norm: str = "none"
    norms: bool = True
    pooling: str = "avg"
    init: str = "torch"
    readout: str | None = None
    momentum: float = 0.9
    least: int = 1


def _resnet(pooled: str | None) -> Callable[[Style, int, int, bool], nn.Module]:
    # DC's plain variant averages the last map, its pooled one (AP) flattens it.
    return lambda s, w, d, compat: ResNet18(s, w, pooled, average=pooled is None)


def _frepo_resnet(ap: bool) -> Callable[[Style, int, int, bool], nn.Module]:
    def body(style: Style, width: int, depth: int, compat: bool) -> nn.Module:
        pooled = ("max" if compat else "avg") if ap else None
        return ResNet18(style, width, pooled, average=False, plain_blocks=compat)

    return body


_PLANS = {
    "convnet": Plan(lambda s, w, d, compat: ConvNet(s, w, d), deep=True, norm="instance"),
    "mlp": Plan(lambda s, w, d, compat: MLP(s, w), norms=False),
    "lenet": Plan(
        lambda s, w, d, compat: LeNet(s, w), width=6, norms=False, pooling="max", least=16
    ),
    "alexnet": Plan(lambda s, w, d, compat: AlexNet(s, w), pooling="max"),
    "vgg11": Plan(lambda s, w, d, compat: VGG(s, w), width=64, norm="instance", pooling="max"),
    "resnet18": Plan(_resnet(None), width=64, norm="instance"),
    "resnet18_ap": Plan(_resnet("avg"), width=64, norm="instance"),
    "frepo_conv": Plan(
        lambda s, w, d, compat: DoublingConvNet(s, w, d), deep=True, init="lecun", momentum=0.1
    ),
    "dcconv": Plan(
        lambda s, w, d, compat: ConvNet(s, w, d, bias=False),
        deep=True, norm="instance", init="he", readout="lecun",
    ),
    "kipconv": Plan(
        lambda s, w, d, compat: KIPConvNet(s, w, d), deep=True, init="kip", momentum=0.1
    ),
    "frepo_alexnet": Plan(lambda s, w, d, compat: AlexNet(s, w), init="lecun"),
    "frepo_vgg11": Plan(
        lambda s, w, d, compat: VGG(s, w, same_width=compat),
        width=64, compat_width=128, init="lecun",
    ),
    "frepo_resnet18": Plan(_frepo_resnet(False), width=64, init="lecun"),
    "frepo_resnet18_ap": Plan(_frepo_resnet(True), width=64, init="lecun"),
}  # fmt: skip
NETWORKS = tuple(_PLANS)


def build(
    name: str,
    classes: int,
    image_shape: tuple[int, int, int],
    width: int | None = None,
    norm: str | None = None,
    pooling: str | None = None,
    depth: int | None = None,
    activation: str = "relu",
    compat: bool = False,
) -> Net:
    """The network of a name, for images (height, width, channel).

    width: filters (units) of the first layer, the others in proportion; depth: blocks of the
    ConvNets; None there and for norm and pooling: the network's own. Depth None leaves a last map
    of about 4x4: 3 blocks for 28 and 32 pixels, 4 for 64, 5 for 128. compat: as FRePo's released
    program builds it (frepo_vgg11: the same width everywhere, 128; frepo_resnet18: the norm reaches
    the stem only, and _ap pools by maxima). Images of 28 pixels are padded to 32 by the first
    convolution. Raises UserError for an unknown name and for what the network cannot be.
    """
    if name not in _PLANS:
        raise choice_error("network", name, NETWORKS)
    plan = _PLANS[name]
    norm, pooling = norm or plan.norm, pooling or plan.pooling
    for key, value, allowed in (
        ("norm", norm, NORMS),
        ("pooling", pooling, POOLINGS),
        ("activation", activation, ACTIVATIONS),
    ):
        if value not in allowed:
            raise choice_error(key, value, allowed)
    if norm != "none" and not plan.norms:
        raise UserError(f"norm={norm}: network={name} has no norm; choose none")
    side = 32 if image_shape[0] == 28 else min(image_shape[:2])
    if side < plan.least:
        raise UserError(f"network={name}: images must have at least {plan.least} pixels a side")
    if width is None:
        width = (compat and plan.compat_width) or plan.width
    if width < 1 or (norm == "group" and width % GROUPS):
        raise UserError(f"width={width}: must be at least 1 (norm=group: a multiple of {GROUPS})")
    depth = default_depth(side) if depth is None else depth
    if plan.deep and (depth < 1 or (pooling != "none" and 2**depth > side)):
        raise UserError(f"depth={depth}: must be at least 1 and leave something of {side} pixels")
    # DC's layer norm is PyTorch's, of the whole map; FRePo's a group norm with one group.
    per_pixel = plan.init == "torch"
    style = Style(norm, pooling, activation, plan.init, plan.momentum, per_pixel)
    return Net(plan.body(style, width, depth, compat), classes, plan.readout or plan.init)


def default_depth(side: int) -> int:
    """Blocks with a 2x2 pooling each that leave a map of about 4x4."""
    return max(1, (side // 4).bit_length() - 1) if side >= 4 else 1
