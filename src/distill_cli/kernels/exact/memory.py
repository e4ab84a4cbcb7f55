"""How much memory a tile of the band engine takes, and the largest tile within a bound.

The figures are upper bounds for what XLA's CPU compiler reports as temporary memory (tests compare
them); the sets of images, their scales and the results come on top.
"""

import math

import numpy as np

from distill_cli.arch.layers import Architecture
from distill_cli.errors import UserError
from distill_cli.kernels.exact.geometry import Stage, plan


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
