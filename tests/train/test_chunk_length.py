"""Steps between two looks at signals: from the configuration and the backend alone."""

import math

import pytest

from distill_cli.arch.named import named
from distill_cli.kernels.exact_kernel import ExactKernel
from distill_cli.train.chunks import CHUNK_BYTES, chunk_length


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"], ids=["host", "accelerator", "other"])
def test_divides_and_never_exceeds_ten(backend) -> None:
    for every in (1, 7, 20, 100):
        for flops in (0.0, 1e9, 1e11, 1e13, 1e16):
            length = chunk_length(every, flops, backend)
            assert every % length == 0 and 1 <= length <= 10
    assert chunk_length(20, 1e16, backend) == 1
    assert chunk_length(20, 0.0, backend) == 10


def test_memory_traffic_shortens_chunks_on_accelerators_only() -> None:
    for moved, expected in ((0.0, 10), (CHUNK_BYTES / 4.5, 4), (CHUNK_BYTES, 1), (1e15, 1)):
        assert chunk_length(20, 1e9, "gpu", moved) == expected
        assert chunk_length(20, 1e9, "cpu", moved) == 10


def test_published_kip_is_one_step_a_chunk_on_a_gpu() -> None:
    """Its ConvNet, batches of 5000, ten images per class: compiled for an H100 a step moves 11 TB,
    3.7 s at the rate of its memory; with one image per class about a tenth."""
    kernel, shape = ExactKernel(named("kip_convnet"), "ntk"), (32, 32, 3)
    moved = kernel.bytes_moved(5100 * 100, shape)
    assert 0.8 * 11.1e12 < moved < 1.25 * 11.1e12
    assert chunk_length(20, kernel.flops(5100 * 100, shape), "gpu", moved) == 1
    few = 5010 * 10
    length = chunk_length(20, kernel.flops(few, shape), "gpu", kernel.bytes_moved(few, shape))
    seconds = length * kernel.bytes_moved(few, shape) / 3e12
    assert 1 <= length <= 4 and seconds < 3
    assert kernel.bytes_moved(few, shape) == pytest.approx(moved * few / (5100 * 100))
    assert ExactKernel(named("fc2"), "ntk").bytes_moved(few, shape) == 0
    assert math.isfinite(moved)
