"""One description of an architecture, from which everything else is derived.

The random features (kernels/random_features.py), the Flax network that is trained
(arch/network.py) and the exact infinite-width kernels (kernels/exact) all read this list of layers,
so that finite and infinite networks cannot drift apart.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple


class Conv(NamedTuple):
    """3x3 convolution, stride 1, zero padding SAME, with bias."""

    width: int


class Dense(NamedTuple):
    """Fully connected layer with bias; acts on flattened input."""

    width: int


class Relu(NamedTuple):
    """max(x, 0)."""


class AvgPool(NamedTuple):
    """2x2 average pooling, stride 2; an odd last row or column is dropped."""


class Flatten(NamedTuple):
    """(height, width, channel) to one vector."""


class GlobalAvgPool(NamedTuple):
    """Mean over height and width."""


Layer = Conv | Dense | Relu | AvgPool | Flatten | GlobalAvgPool


@dataclass(frozen=True)
class Architecture:
    """A network without its read-out: the layers up to the vector that the last Dense layer reads.

    Weights have variance weight_variance / fan_in and biases bias_variance, in hidden layers and in
    the read-out. The exact kernels include the read-out; the random features do not (its average
    is taken in closed form: K = weight_variance <phi, phi'> / d + bias_variance).
    """

    layers: tuple[Layer, ...]
    weight_variance: float = 2.0
    bias_variance: float = 0.01


def convnet(width: int, depth: int, convs_per_block: tuple[int, ...] | None = None) -> Architecture:
    """The field's ConvNet: depth blocks of [conv 3x3, ReLU, 2x2 average pool], then flatten.

    convs_per_block gives the number of [conv, ReLU] pairs before each pool; 1 each by default
    (RFAD section 3; KIP's ConvNet has (2, 1, 1)).
    """
    per_block = convs_per_block or (1,) * depth
    layers: list[Layer] = []
    for convs in per_block:
        layers += [Conv(width), Relu()] * convs + [AvgPool()]
    return Architecture((*layers, Flatten()))


def fully_connected(width: int, depth: int) -> Architecture:
    """Flatten, then depth times [Dense, ReLU]."""
    layers: tuple[Layer, ...] = (Dense(width), Relu()) * depth
    return Architecture((Flatten(), *layers))


def conv_vec(width: int, depth: int) -> Architecture:
    """depth times [conv 3x3, ReLU], then flatten: Conv-Vec of Nguyen et al. 2021."""
    return Architecture((*(Conv(width), Relu()) * depth, Flatten()))


MYRTLE = {5: (1, 1, 1), 7: (1, 2, 2), 10: (2, 3, 3)}  # convolutions of the three groups


def myrtle(width: int, depth: int) -> Architecture:
    """Myrtle-`depth`: a first [conv, ReLU], the groups of MYRTLE with a pool after the first two,
    global average pooling (Shankar et al. 2020)."""
    pair = (Conv(width), Relu())
    first, second, third = (pair * convs for convs in MYRTLE[depth])
    pool = (AvgPool(),)
    return Architecture((*pair, *first, *pool, *second, *pool, *third, GlobalAvgPool()))


def widest_activation(architecture: Architecture, image_shape: tuple[int, int, int]) -> int:
    """Numbers in the largest activation of one image, the image itself among them."""
    layers = architecture.layers
    shapes = (
        feature_shape(Architecture(layers[:end]), image_shape) for end in range(len(layers) + 1)
    )
    return max(math.prod(shape) for shape in shapes)


def feature_shape(architecture: Architecture, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Shape of one image's activations after the last layer; raises ValueError if it vanishes."""
    shape: Any = image_shape
    for layer in architecture.layers:
        match layer:
            case Conv(width):
                shape = (*shape[:2], width)
            case Dense(width):
                shape = (width,)
            case AvgPool():
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
                if 0 in shape:
                    pools = sum(isinstance(other, AvgPool) for other in architecture.layers)
                    raise ValueError(f"{pools} poolings leave nothing of a {image_shape} image")
            case Flatten():
                size = 1
                for axis in shape:
                    size *= axis
                shape = (size,)
            case GlobalAvgPool():
                shape = (shape[2],)
            case Relu():
                pass
    return shape
