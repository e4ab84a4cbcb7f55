#!/usr/bin/env python3
"""Seconds of one RFAD step: a PyTorch program and distill_cli, side by side on one device.

    python scripts/bench_torch_rfad.py [--quick] [--json FILE] [--repeats 5]

The PyTorch step follows the published algorithm and the released program's sizes (Loo et al.,
NeurIPS 2022): N fresh ConvNets, K = 2 <Phi, Phi'> + 0.01, ridge relative to the trace, a float64
solve, cross-entropy with a learned temperature, gradients by autograd to pixels and pixel matrix,
AdaBelief. On a GPU the published sizes (CIFAR-10, ipc 10, 8 networks of 256 channels, 4 x 1280
images), TF32 on both sides; on a CPU those of hardware=cpu, and an idle machine: PyTorch's threads
wait for each other, so other work there slows it several times more than distill_cli. Each side is
a process of its own and they take turns; torch is timed alone where jax does not see its device.
"""

import argparse
import importlib.util
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench_step import HERE, Worker, distiller, fail

JITTER = 5e-3
WEIGHT_VARIANCE, BIAS_VARIANCE = 2.0, 0.01
RATES = {"images": 1e-3, "transform": 5e-5, "log_temperature": 1e-2}
CHUNK = 1280


class Size(NamedTuple):
    """height and width, channels, networks, images of the coreset and of the batch."""

    side: int
    width: int
    networks: int
    coreset: int
    batch: int


SIZES = {
    "cuda": Size(32, 256, 8, 100, 5120),
    "cpu": Size(32, 64, 8, 10, 256),
    "quick": Size(8, 8, 2, 10, 64),
}
CLASSES, DEPTH, COLOURS = 10, 3, 3


def draw(width: int, colours: int, networks: int, device: Any) -> list[list[tuple[Any, Any]]]:
    """(weight OIHW, bias) of every convolution of every network: N(0, 2 / (9 c)), N(0, 0.01)."""
    import torch

    drawn = []
    for _ in range(networks):
        layers, fan = [], colours
        for _ in range(DEPTH):
            weight = torch.randn(width, fan, 3, 3, device=device)
            bias = torch.randn(width, device=device) * BIAS_VARIANCE**0.5
            layers.append((weight * (WEIGHT_VARIANCE / (9 * fan)) ** 0.5, bias))
            fan = width
        drawn.append(layers)
    return drawn


def features(networks: list[list[tuple[Any, Any]]], images: Any) -> Any:
    """Phi (n, N d) of images NCHW: activations behind the last pooling, over sqrt(N d)."""
    import torch
    from torch.nn import functional

    rows = []
    for layers in networks:
        h = images
        for weight, bias in layers:
            h = functional.avg_pool2d(
                functional.relu(functional.conv2d(h, weight, bias, padding=1)), 2
            )
        rows.append(h.flatten(1))
    phi = torch.cat(rows, 1)
    return phi / math.sqrt(phi.shape[1])


def gram(a: Any, b: Any) -> Any:
    """K = 2 <Phi, Phi'> + 0.01."""
    return WEIGHT_VARIANCE * (a @ b.T) + BIAS_VARIANCE


def loss_of(networks: Any, params: dict[str, Any], targets: Any, images: Any, labels: Any) -> Any:
    """Mean cross-entropy of softmax(exp(k) f) over the batch; gradients reach params alone."""
    import torch
    from torch.nn import functional

    x = params["images"]
    z = (x.flatten(1) @ params["transform"]).reshape(x.shape)
    phi_s = features(networks, z)
    k_ss = gram(phi_s, phi_s).double()
    ridge = JITTER * torch.trace(k_ss) / len(x) * torch.eye(len(x), device=x.device).double()
    alpha = torch.linalg.solve(k_ss + ridge, targets.double())
    outputs = []
    for part in images.split(CHUNK):
        with torch.no_grad():
            phi = features(networks, part)
        outputs.append(gram(phi, phi_s).double() @ alpha)
    scaled = torch.exp(params["log_temperature"]) * torch.cat(outputs)
    return functional.cross_entropy(scaled, labels)


class AdaBelief:
    """m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) (g - m)^2 + eps;
    x <- x - rate / (1 - b1^t) m / (sqrt(s / (1 - b2^t)) + eps), with eps = 1e-16."""

    def __init__(self, params: dict[str, Any]) -> None:
        import torch

        self.params, self.step_number = params, 0
        self.moments = {
            name: (torch.zeros_like(x), torch.zeros_like(x)) for name, x in params.items()
        }

    def step(self) -> None:
        """One update from the gradients at hand, which are cleared."""
        import torch

        self.step_number += 1
        b1, b2, eps = 0.9, 0.999, 1e-16
        first, second = 1 - b1**self.step_number, 1 - b2**self.step_number
        with torch.no_grad():
            for name, x in self.params.items():
                m, s = self.moments[name]
                m.mul_(b1).add_(x.grad, alpha=1 - b1)
                difference = x.grad - m
                s.mul_(b2).addcmul_(difference, difference, value=1 - b2).add_(eps)
                x.addcdiv_(m, (s / second).sqrt_().add_(eps), value=-RATES[name] / first)
                x.grad = None


class TorchStep:
    """The PyTorch side, warmed."""

    def __init__(self, size: Size, device: str) -> None:
        import torch

        torch.manual_seed(0)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        self.size, self.device = size, torch.device(device)
        shape = (COLOURS, size.side, size.side)
        pixels = math.prod(shape)
        self.params = {
            "images": torch.randn(size.coreset, *shape, device=device),
            "transform": torch.eye(pixels, device=device),
            "log_temperature": torch.zeros((), device=device, dtype=torch.float64),
        }
        for x in self.params.values():
            x.requires_grad_()
        own = torch.arange(size.coreset, device=device) % CLASSES
        self.targets = torch.eye(CLASSES, device=device)[own] - 1 / CLASSES
        self.images = torch.randn(size.batch, *shape, device=device)
        self.labels = torch.arange(size.batch, device=device) % CLASSES
        self.optimiser = AdaBelief(self.params)
        self.facts = {"side": "torch", "version": torch.__version__}
        self.turn()

    def turn(self) -> float:
        """Seconds of one step, networks drawn anew."""
        start = time.perf_counter()
        networks = draw(self.size.width, COLOURS, self.size.networks, self.device)
        loss = loss_of(networks, self.params, self.targets, self.images, self.labels)
        loss.backward()
        self.optimiser.step()
        loss.item()  # waits for the device
        return time.perf_counter() - start


class OwnStep:
    """distill_cli's side, compiled and warmed; the same sizes."""

    def __init__(self, size: Size, device: str) -> None:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        from distill_cli.core.types import Batch, Coreset, one_hot_centred

        if (jax.default_backend() == "cpu") != (device == "cpu"):
            raise SystemExit(f"jax sees {jax.devices()[0].device_kind}")
        shape = (size.side, size.side, COLOURS)
        method, _ = distiller(shape, size.width, size.networks)
        keys = jax.random.split(jax.random.key(0), 3)
        images = jax.random.normal(keys[0], (size.coreset, *shape), jnp.float32)
        labels = one_hot_centred(jnp.arange(size.coreset) % CLASSES, CLASSES)
        start = Coreset(images, labels, jnp.zeros((), jnp.float64))
        self.state, self.key, self.number = method.init(keys[1], start), keys[2], 0
        self.batch = Batch(
            jax.random.normal(keys[1], (size.batch, *shape), jnp.float32),
            jnp.arange(size.batch) % CLASSES,
            jnp.ones(size.batch, jnp.float32),
        )
        self.step = jax.jit(method.step, donate_argnums=0)
        self.facts = {"side": "distill_cli", "version": jax.__version__}
        self.turn()

    def turn(self) -> float:
        """Seconds of one step, networks drawn anew."""
        import jax

        key = jax.random.fold_in(self.key, self.number)
        self.number += 1
        start = time.perf_counter()
        self.state, info = self.step(self.state, self.batch, key)
        float(info["loss"])
        jax.block_until_ready(self.state)
        return time.perf_counter() - start


SIDES = {"torch": TorchStep, "distill_cli": OwnStep}


def work(side: str, size: str, device: str) -> None:
    """A worker's side: what it is, then the seconds of a step for every line read."""
    made = SIDES[side](SIZES[size], device)
    print(json.dumps(made.facts), flush=True)
    for _ in sys.stdin:
        print(json.dumps(made.turn()), flush=True)


def measure(size: str, device: str, repeats: int) -> dict[str, Any]:
    """Median seconds of both sides, a turn each in changing order, and their ratio."""
    row: dict[str, Any] = {"device": device, "repeats": repeats, **SIZES[size]._asdict()}
    workers = {}
    for side in SIDES:
        worker = Worker(HERE, __file__, side, size, device)
        try:
            row[f"{side}_version"] = worker.answer()["version"]
            workers[side] = worker
        except SystemExit:
            if side == "torch":
                raise
    seconds: dict[str, list[float]] = {side: [] for side in workers}
    for index in range(repeats):
        for side in list(workers)[:: 1 if index % 2 == 0 else -1]:
            seconds[side].append(workers[side].turn())
    for side, worker in workers.items():
        worker.close()
        row[f"{side}_seconds"] = statistics.median(seconds[side])
        row[f"{side}_fastest"] = min(seconds[side])
    if "distill_cli" in workers:
        row["ratio"] = row["torch_seconds"] / row["distill_cli_seconds"]
    return row


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), help="default: cuda where torch has it"
    )
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        return fail("PyTorch is not installed; pip install torch into this environment")
    if options.worker:
        work(*options.worker)
        return 0
    if options.repeats < 1:
        return fail(f"--repeats={options.repeats}: must be at least 1")
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        return fail("--device=cuda: torch sees no GPU; use cpu")
    row = measure("quick" if options.quick else device, device, options.repeats)
    name = (
        torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    )
    row["device"] = f"{device} ({name})"
    print(", ".join(f"{key} {row[key]}" for key in ("device", *Size._fields)))
    for side in SIDES:
        if f"{side}_seconds" in row:
            seconds, fastest = row[f"{side}_seconds"], row[f"{side}_fastest"]
            print(f"{side:12} {seconds:.4f} s a step, fastest {fastest:.4f}")
    if "ratio" in row:
        print(f"torch takes {row['ratio']:.2f} times as long")
    if options.json:
        options.json.write_text(
            json.dumps({"benchmark": "bench_torch_rfad", **row}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
