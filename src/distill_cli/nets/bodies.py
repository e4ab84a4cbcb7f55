"""Network bodies: images to the vector that the read-out reads.

DC family: networks of the DC, DSA and DM experiments (Zhao et al., ICLR 2021; ICML 2021; WACV
2023). FRePo family: networks of Zhou, Nezhadarya, Ba, NeurIPS 2022. Every body takes `(images,
train)`; train decides which statistics norm=batch uses.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from distill_cli.nets.layers import Conv, Dense, Norm, Style, first_padding, flatten

Images = Float[Array, "n h w c"]
Features = Float[Array, "n d"]

# Filters of each convolution; None is a pooling.
ALEXNET = ((5, 128), None, (5, 192), None, (3, 256), (3, 192), (3, 192), None)
VGG11 = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)


class ConvNet(nn.Module):
    """`depth` blocks of conv 3x3, norm, activation, 2x2 pooling; then flatten."""

    style: Style
    width: int
    depth: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        for block in range(self.depth):
            padding = first_padding(x.shape[1], 1) if block == 0 else 1
            x = Conv(self.width, self.style.init, padding=padding, bias=self.bias)(x)
            x = self.style.pool(self.style.activate(Norm(self.style)(x, train)))
        return flatten(x)


class DoublingConvNet(nn.Module):
    """`depth` blocks of norm (not in block 0), conv 3x3 with width 2^block filters, activation,
    2x2 pooling; then flatten. FRePo's "Conv"."""

    style: Style
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        for block in range(self.depth):
            if block:
                x = Norm(self.style)(x, train)
            padding = first_padding(x.shape[1], 1) if block == 0 else 1
            x = Conv(self.width * 2**block, self.style.init, padding=padding)(x)
            x = self.style.pool(self.style.activate(x))
        return flatten(x)


class KIPConvNet(nn.Module):
    """conv and activation, then `depth` blocks of norm, conv, activation, pooling; flatten."""

    style: Style
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        padding = first_padding(x.shape[1], 1)
        x = self.style.activate(Conv(self.width, self.style.init, padding=padding)(x))
        for _ in range(self.depth):
            x = Conv(self.width, self.style.init)(Norm(self.style)(x, train))
            x = self.style.pool(self.style.activate(x))
        return flatten(x)


class MLP(nn.Module):
    """Flatten, two hidden layers of `width` units."""

    style: Style
    width: int

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        del train
        x = flatten(x)
        for _ in range(2):
            x = self.style.activate(Dense(self.width, self.style.init)(x))
        return x


class LeNet(nn.Module):
    """conv 5x5 with 6 filters, pool, conv 5x5 with 16, pool, 120 and 84 units (width = 6)."""

    style: Style
    width: int

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        del train
        padding = first_padding(x.shape[1], 0)
        for width, pad in ((6, padding), (16, 0)):
            x = Conv(scaled(width, self.width, 6), self.style.init, size=5, padding=pad)(x)
            x = self.style.pool(self.style.activate(x))
        x = flatten(x)
        for width in (120, 84):
            x = self.style.activate(Dense(scaled(width, self.width, 6), self.style.init)(x))
        return x


class AlexNet(nn.Module):
    """The convolutions and poolings of ALEXNET, then flatten (width = 128)."""

    style: Style
    width: int

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        for index, layer in enumerate(ALEXNET):
            if layer is None:
                x = self.style.pool(x)
                continue
            size, width = layer
            padding = first_padding(x.shape[1], size // 2) if index == 0 else size // 2
            width = scaled(width, self.width, 128)
            x = Conv(width, self.style.init, size=size, padding=padding)(x)
            x = self.style.activate(Norm(self.style)(x, train))
        return flatten(x)


class VGG(nn.Module):
    """VGG11's eight convolutions and five poolings, then flatten (width = 64).

    same_width: all convolutions have `width` filters (FRePo's released program).
    """

    style: Style
    width: int
    same_width: bool = False

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        for index, width in enumerate(VGG11):
            if width is None:
                x = self.style.pool(x)
                continue
            width = self.width if self.same_width else scaled(width, self.width, 64)
            padding = first_padding(x.shape[1], 1) if index == 0 else 1
            x = Conv(width, self.style.init, padding=padding)(x)
            x = self.style.activate(Norm(self.style)(x, train))
        return flatten(x)


class Block(nn.Module):
    """Residual block of two 3x3 convolutions without bias.

    stride 2 halves the size: by strided convolutions, or with `pooled` ("avg", "max") by 2x2
    pooling after convolutions of stride 1. normalised=False leaves the norms out.
    """

    style: Style
    width: int
    stride: int
    pooled: str | None
    normalised: bool

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        style = self.style
        stride = 1 if self.pooled else self.stride

        def halve(y: Array) -> Array:
            return Style(pooling=self.pooled).pool(y) if self.pooled and self.stride == 2 else y

        def normalise(y: Array) -> Array:
            return Norm(style)(y, train) if self.normalised else y

        y = normalise(Conv(self.width, style.init, stride=stride, bias=False)(x))
        y = halve(style.activate(y))
        y = normalise(Conv(self.width, style.init, bias=False)(y))
        if self.stride == 2 or x.shape[-1] != self.width:
            x = Conv(self.width, style.init, size=1, stride=stride, bias=False)(x)
            x = normalise(halve(x))
        return style.activate(x + y)


class ResNet18(nn.Module):
    """ResNet-18 for small images: 3x3 stem without pooling, four stages of two blocks (width = 64).

    pooled: as in Block; average: global average pooling at the end instead of flattening;
    plain_blocks: the norm reaches the stem only (FRePo's released program).
    """

    style: Style
    width: int
    pooled: str | None = None
    average: bool = True
    plain_blocks: bool = False

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        padding = first_padding(x.shape[1], 1)
        x = Conv(self.width, self.style.init, padding=padding, bias=False)(x)
        x = self.style.activate(Norm(self.style)(x, train))
        for stage in range(4):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                width = self.width * 2**stage
                x = Block(self.style, width, stride, self.pooled, not self.plain_blocks)(x, train)
        return x.mean((1, 2)) if self.average else flatten(x)


def scaled(width: int, given: int, usual: int) -> int:
    """A layer's width in a network whose first layer has `given` filters instead of `usual`."""
    return max(1, round(width * given / usual))
