"""Which offsets and sizes every layer needs: the plan that the band engine follows."""

from typing import NamedTuple

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    Layer,
    Relu,
)


class Stage(NamedTuple):
    """One spatial operation: its kind, and the sizes and offset radii (y, x) of its input."""

    kind: str  # "conv", "relu", "pool", "relu_pool"
    size: tuple[int, int]
    radius: tuple[int, int]

    @property
    def pooled_size(self) -> tuple[int, int]:
        return self.size[0] // 2, self.size[1] // 2

    @property
    def pooled_radius(self) -> tuple[int, int]:
        return self.radius[0] // 2, self.radius[1] // 2


class Plan(NamedTuple):
    """stages: the spatial part.  total: GlobalAvgPool ends it (all offsets are averaged), else
    Flatten (offset 0 only).  head: the layers on vectors, without the read-out."""

    stages: tuple[Stage, ...]
    total: bool
    head: tuple[Layer, ...]

    def blocks(self) -> tuple[int, ...]:
        """Convolutions in each of the leading blocks, which run offset by offset: [convolution,
        ReLU] any number of times, closed by a pooling or by the end of the stages."""
        kinds = [stage.kind for stage in self.stages]
        found, start = [], 0
        while start < len(kinds):
            convs = 0
            while kinds[start + 2 * convs : start + 2 * convs + 2] == ["conv", "relu"]:
                convs += 1
            end = start + 2 * convs
            if kinds[end : end + 2] == ["conv", "relu_pool"]:
                convs, end = convs + 1, end + 2
            elif not convs or end < len(kinds):
                break
            found.append(convs)
            start = end
        return tuple(found)


def plan(architecture: Architecture, size: tuple[int, ...]) -> Plan:
    """Sizes forwards, offset radii backwards; a ReLU and the pooling after it become one stage.

    The radius (per axis) is 0 before Flatten, size - 1 before GlobalAvgPool; a pooling that gives
    offsets up to R needs 2 R + 1 of its input; convolution and ReLU keep the radius. With R <= S'
    - 1 after the pooling 2 R + 1 <= S - 1 before it, so a radius never leaves the image.
    """
    layers = list(architecture.layers)
    ends = [i for i, x in enumerate(layers) if isinstance(x, Flatten | GlobalAvgPool)]
    end = ends[0] if ends else len(layers)
    total = bool(ends) and isinstance(layers[end], GlobalAvgPool)
    kinds: list[str] = []
    for layer in layers[:end]:
        match layer:
            case Conv():
                kinds.append("conv")
            case Relu():
                kinds.append("relu")
            case AvgPool() if kinds and kinds[-1] == "relu":
                kinds[-1] = "relu_pool"
            case AvgPool():
                kinds.append("pool")
    sizes = [(size[0], size[1])]
    for kind in kinds:
        h, w = sizes[-1]
        sizes.append((h // 2, w // 2) if "pool" in kind else (h, w))
    radius = (sizes[-1][0] - 1, sizes[-1][1] - 1) if total else (0, 0)
    stages = []
    for kind, shape in zip(reversed(kinds), reversed(sizes[:-1]), strict=True):
        if "pool" in kind:
            radius = (2 * radius[0] + 1, 2 * radius[1] + 1)
        stages.append(Stage(kind, shape, radius))
    head = tuple(x for x in layers[end + 1 :] if not isinstance(x, Flatten))
    return Plan(tuple(reversed(stages)), total, head)
