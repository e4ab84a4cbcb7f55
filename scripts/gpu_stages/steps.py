"""One step of a method on the accelerator against the same step on the CPU backend.

Same keys, same networks, same images; what differs is the arithmetic. Compared are the loss and the
gradient of the images (see problems.first_moment). Bounds, on |difference| / |CPU value| and on
1 - cosine, are those of the arithmetic, times what the method's ridge lets through: float32 rounds
at 6e-8, TF32 products at 5e-4, bfloat16 ones at 4e-3.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from gpu_stages.problems import cosine, distiller, first_moment, points, relative

SHAPE, SMALL, IPC, BATCH = (16, 16, 3), (8, 8, 3), 2, 64
RFAD = [
    "method=rfad", "ipc=2", "architecture.width=32", "architecture.depth=2", "kernel.networks=2",
    "batch.size=64", "batch.number=1", "batch.micro=32",
]  # fmt: skip
NETWORK = ["ipc=2", "batch.size=64", "batch.number=1", "batch.micro=32", "method.width=16"]
KIP = ["method=kip", "ipc=2", "architecture.depth=1", "architecture.convs=null", "batch.size=64"]


class Case(NamedTuple):
    """A method's step: its overrides on the accelerator, bounds of relative difference of the loss
    and of 1 - cosine of the gradient, precision of products that say none (None: the default)."""

    name: str
    overrides: list[str]
    loss: float
    gradient: float
    products: str | None = None
    shape: tuple[int, int, int] = SHAPE


CASES = [
    Case("rfad float32", [*RFAD, "kernel.features=float32", "kernel.fused=false"], 1e-4, 1e-5),
    Case("rfad tf32", [*RFAD, "kernel.features=tf32", "kernel.fused=false"], 1e-2, 1e-3),
    Case("rfad tf32 fused", [*RFAD, "kernel.features=tf32", "kernel.fused=true"], 1e-2, 1e-3),
    Case("rfad bfloat16", [*RFAD, "kernel.features=bfloat16", "kernel.fused=false"], 5e-2, 2e-2),
    Case("frepo float32", ["method=frepo", *NETWORK, "method.pool=2", "labels=learned",
                           "method.ridge=1e-3"], 1e-3, 1e-4, "highest"),
    Case("frepo tf32", ["method=frepo", *NETWORK, "method.pool=2", "labels=learned",
                        "method.ridge=1e-3"], 5e-2, 5e-2),
    Case("dsa float32", ["method=dsa", *NETWORK, "dataset=cifar10"], 1e-3, 1e-3, "highest"),
    Case("dsa tf32", ["method=dsa", *NETWORK, "dataset=cifar10"], 5e-2, 5e-2),
    Case("kip", KIP, 1e-3, 1e-3, "highest", SMALL),
]  # fmt: skip


def one_step(
    overrides: list[str], device: Any, products: str | None, shape: tuple[int, int, int] = SHAPE
) -> tuple[float, np.ndarray]:
    """(loss, gradient of the images up to a constant) of the first step, computed on `device`."""
    method, _ = distiller(overrides, shape)
    start, batch = points(IPC * 10, BATCH, shape)
    keys = jax.random.key(0), jax.random.key(1)
    start, batch, keys = jax.device_put((start, batch, keys), device)
    with jax.default_device(device), jax.default_matmul_precision(products):
        state = method.init(keys[0], start)
        after, info = jax.jit(method.step)(state, batch, keys[1])
    return float(info["loss"]), first_moment(after, start.images)


def on_cpu(overrides: list[str]) -> list[str]:
    """The same step where there is no GPU kernel: exact products, no fused block."""
    plain = [item for item in overrides if not item.startswith(("kernel.fused", "kernel.features"))]
    rfad = "method=rfad" in overrides
    return plain + (["kernel.fused=false", "kernel.features=float32"] if rfad else [])


def compare(case: Case) -> dict[str, Any]:
    """Differences of the step on the first device and on the CPU, and whether they are within the
    bounds of the case."""
    loss, gradient = one_step(case.overrides, jax.devices()[0], case.products, case.shape)
    host = jax.devices("cpu")[0]
    loss_cpu, gradient_cpu = one_step(on_cpu(case.overrides), host, "highest", case.shape)
    off, angle = abs(loss - loss_cpu) / abs(loss_cpu), 1 - cosine(gradient, gradient_cpu)
    return {
        "loss": loss, "loss_cpu": loss_cpu, "loss_difference": off, "loss_bound": case.loss,
        "gradient_difference": relative(gradient, gradient_cpu), "one_minus_cosine": angle,
        "gradient_bound": case.gradient,
        "within": bool(off <= case.loss and angle <= case.gradient),
    }  # fmt: skip
