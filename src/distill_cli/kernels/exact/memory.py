"""How much memory a tile of the band engine takes, and the largest tile within a bound.

The figures are upper bounds for what XLA's CPU compiler reports as temporary memory (tests compare
them); the sets of images, their scales and the results come on top.
"""

import math
from collections.abc import Sequence

import numpy as np

from distill_cli.arch.layers import Architecture
from distill_cli.core import devices
from distill_cli.errors import UserError
from distill_cli.kernels.exact.geometry import Stage, plan

DEFAULT_MB = 512.0  # the default of every memory_mb
OF_DEVICE = 1 / 3  # of an accelerator's memory, where memory_mb is left at the default


def bound(memory_mb: float) -> float:
    """The bound of tiles on an accelerator: memory_mb, or where that is the default, which is meant
    for a CPU's caches, a third of the device's memory."""
    if memory_mb != DEFAULT_MB:
        return memory_mb
    return max(DEFAULT_MB, OF_DEVICE * device_mb())


def device_mb() -> float:
    """Memory that JAX may use on the first chosen device, MB; 0 where the device does not say."""
    stats = devices.chosen()[0].memory_stats() or {}
    return stats.get("bytes_limit", 0) / 2**20


def _framed(stage: Stage, more: int = 0) -> int:
    """Numbers in the framed band that enters a stage, for one image; more: further offsets."""
    (h, w), (ry, rx) = stage.size, stage.radius
    return (2 * ry + 1 + more) * (2 * rx + 1 + more) * (h + 2) * (w + 2)


def _numbers_per_column(architecture, image_shape: tuple[int, ...], gradient: bool) -> int:
    """Upper bound of the numbers that one image of X2 adds to a tile.

    Images with their scales on the padded planes of the first stage; both kernels' bands between
    blocks, each in three copies at a time; whole bands in the general path; in the derivative the
    cotangents at every pixel of a block.
    """
    design = plan(architecture, image_shape[:2])
    if not design.stages:
        return 8 * math.prod(image_shape)
    blocks = design.blocks()
    done = 2 * sum(blocks)
    ends = [2 * sum(blocks[: i + 1]) for i in range(len(blocks))]
    first = design.stages[0]
    margin = blocks[0] if blocks else 0
    (h, w), (ry, rx) = first.size, first.radius
    padded = (h + 2 * (ry + margin)) * (w + 2 * (rx + margin))
    total = padded * (6 * image_shape[2] + 16)
    between = [_framed(design.stages[end], 2) for end in ends if end < len(design.stages)]
    if blocks and done == len(design.stages):
        last = design.stages[-1]
        between.append(_framed(last) if last.kind == "relu" else 0)
    total += 6 * max(between, default=0)
    if gradient:
        cotangents = [_framed(design.stages[end - 1], 2) for end in ends]
        total += 8 * max(cotangents, default=0)
        total += sum(4 * number for number in between)
    rest = [_framed(stage) for stage in design.stages[done:]]
    return total + (10 if not gradient else 10 * len(rest)) * max(rest, default=0)


def tile_mb(
    architecture: Architecture,
    image_shape: tuple[int, ...],
    rows: int,
    columns: int,
    dtype: type | np.dtype = np.float32,
    gradient: bool = False,
) -> float:
    """Upper bound in MB (2^20 bytes) of a tile of rows x columns pairs; gradient: with its
    derivative."""
    numbers = columns * _numbers_per_column(architecture, image_shape, gradient)
    relus = sum("relu" in stage.kind for stage in plan(architecture, image_shape[:2]).stages)
    numbers += rows * (math.prod(image_shape) + relus * math.prod(image_shape[:2]) + 2 * columns)
    return numbers * np.dtype(dtype).itemsize / 2**20


def band_numbers(stages: Sequence[Stage]) -> list[int]:
    """Numbers in the band of one pair before each stage."""
    return [
        (2 * ry + 1) * (2 * rx + 1) * h * w for (h, w), (ry, rx) in (stage[1:] for stage in stages)
    ]


def grid_mb(
    architecture: Architecture,
    image_shape: tuple[int, ...],
    rows: int,
    columns: int,
    dtype: type | np.dtype = np.float32,
    gradient: bool = False,
) -> float:
    """tile_mb of a tile on whole bands (grid.py).

    A pair of images has the sources of its convolutions (products of pixels, later two bands at a
    time), the cotangents of two neighbouring convolutions, and both kernels' pooled bands.
    """
    design = plan(architecture, image_shape[:2])
    stages = design.stages
    numbers = band_numbers(stages)
    pair, kept, most, end = 2 + 8 * math.prod(image_shape) * (not stages), 0, 0, 0
    for block, convs in enumerate(design.blocks()):
        end += 2 * convs
        band, last = numbers[end - 1], stages[end - 1]
        pooled = last._replace(size=last.pooled_size, radius=last.pooled_radius)
        after = band_numbers([pooled])[0] if last.kind == "relu_pool" else band
        first = 2 if block else 1
        sources = first + 2 * (convs - 1)
        live = first + 2 * (convs > 1) + 2 * (convs > 2 and not gradient)
        kept += sources * band + 2 * after
        most = max(most, live * band + 6 * after)
    pair += most + kept if gradient else most
    rest = numbers[end:]
    pair += 10 * (len(rest) if gradient else 1) * max(rest, default=0)
    padded = max(((h + 2 * ry) * (w + 2 * rx) for _, (h, w), (ry, rx) in stages), default=0)
    image = padded * (4 * image_shape[2] + 12) + 4 * math.prod(image_shape)
    # scales of X2 at all offsets: the compiler may write them out
    total = rows * columns * pair + (rows + columns) * image + columns * max(numbers, default=0)
    return total * np.dtype(dtype).itemsize / 2**20


def too_small(memory_mb: float, image_shape: tuple[int, ...], least: float) -> UserError:
    size = "x".join(map(str, image_shape))
    return UserError(
        f"memory_mb={memory_mb:g}: too small for one pair of {size} images; "
        f"the least is {math.ceil(least)}"
    )


def fit(
    architecture: Architecture,
    image_shape: tuple[int, ...],
    dtype: type | np.dtype,
    memory_mb: float,
    rows: int,
    columns: int,
    gradient: bool = False,
) -> tuple[int, int]:
    """(rows, columns), the given ones or less, of a tile within memory_mb; UserError if one pair
    exceeds it."""
    while tile_mb(architecture, image_shape, rows, columns, dtype, gradient) > memory_mb:
        if rows == columns == 1:
            raise too_small(
                memory_mb, image_shape, tile_mb(architecture, image_shape, 1, 1, dtype, gradient)
            )
        rows, columns = (rows, columns // 2) if columns >= rows else (rows // 2, columns)
    return rows, columns
