"""An H100, or eight, that are not there: XLA compiles for their description.

The environment needs JAX's CUDA plugin and no GPU. JAX is imported with `ENVIRONMENT` set, so this
module runs in a process of its own. There is no autotuning without a device: products run in
Triton's default tiles, cuDNN picks its algorithm at run time, its workspace is not counted, and
sorts do not use CUB.
"""

import importlib.util
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpu import cost, hlo, signs

if TYPE_CHECKING:
    from gpu.programs import Program

DESCRIPTION = Path(__file__).with_name("h100.pbtxt")
PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # else the plugin asks the driver
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def plugin() -> str | None:
    """The installed CUDA plugin and its version, or None."""
    from importlib.metadata import version

    for name in PLUGINS:
        try:
            if importlib.util.find_spec(name) is not None:
                package = f"jax-{name.removeprefix('jax_plugins.xla_')}-plugin"
                return f"{package} {version(package)}"
        except ModuleNotFoundError:
            continue
    return None


def description_name() -> str:
    """What the target calls itself."""
    found = re.search(r'device_description_str: "([^"]+)"', DESCRIPTION.read_text())
    return found.group(1) if found else DESCRIPTION.stem


@dataclass
class Target:
    """The devices to compile for, and whether the program asked for a mesh of them."""

    devices: tuple[Any, ...]
    shared_out: bool = field(default=False)

    def abstract(self, tree: Any) -> Any:
        """Arrays and shapes as arguments on the target, the same on every device; other leaves as
        they are."""
        import jax
        import numpy as np
        from jax.sharding import Mesh, NamedSharding
        from jax.sharding import PartitionSpec as P

        everywhere = NamedSharding(Mesh(np.array(self.devices), ("devices",)), P())

        def one(leaf: Any) -> Any:
            if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
                return leaf
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)

        return jax.tree.map(one, tree)


def pretend(count: int) -> Target:
    """Let JAX and the project believe that this machine has `count` H100. For the rest of the
    process: what runs is still on the CPU, what is lowered for the target's devices is theirs."""
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_enable_x64", True)
    described = topologies.get_topology_desc(
        platform="cuda", target_config=DESCRIPTION.read_text(), topology=f"1x1x{count}"
    )
    target = Target(tuple(described.devices))
    believe(target)
    return target


def believe(target: Target, backend: str = "gpu") -> None:
    """Answer JAX's questions about devices, and the project's, with the target."""
    import jax

    from distill_cli.core import devices
    from distill_cli.kernels import fused_block, products
    from distill_cli.kernels.exact import memory

    jax.device_put = lambda tree, *_, **__: tree  # nothing can be put there
    memory.device_mb = lambda: 0.75 * signs.USABLE_BYTES / 2**20  # what JAX reserves
    jax.default_backend = lambda: backend
    fused_block.works = lambda: backend == "gpu"  # its trial would have to run
    products.split_works = lambda: backend == "gpu"  # and so would this one
    jax.devices = lambda *_, **__: list(target.devices)
    jax.local_devices = lambda *_, **__: list(target.devices)
    jax.device_count = jax.local_device_count = lambda *_, **__: len(target.devices)
    devices.choose(devices.AUTO)
    row = devices.row

    def noted(*arguments: Any, **named: Any) -> Any:
        target.shared_out = True
        return row(*arguments, **named)

    devices.row = noted


class Compiled(NamedTuple):
    """A row of the record, and the optimised HLO."""

    row: dict[str, Any]
    text: str


def compile_program(program: "Program", count: int) -> Compiled:
    """Build, lower and compile a program for `count` devices; figures are those of one device.

    A program for several devices that does not share its work out is not compiled: its row says
    `alone`.
    """
    target = pretend(count)
    built = program.build(target)
    row: dict[str, Any] = {"program": program.name, "devices": count, "what": built.what}
    if count > 1 and not target.shared_out:
        return Compiled({**row, "alone": True}, "")
    clock = time.monotonic()
    compiled = built.lowered.compile()
    seconds = time.monotonic() - clock
    text = compiled.as_text()
    found = compiled.memory_analysis()
    memory = {
        "argument_bytes": found.argument_size_in_bytes,
        "output_bytes": found.output_size_in_bytes,
        "alias_bytes": found.alias_size_in_bytes,
        "temp_bytes": found.temp_size_in_bytes,
    }
    module = hlo.parse(text)
    kernels = cost.price_module(module, built.unknown_trips)
    scale = built.runs / built.steps
    row |= {
        "step": built.step, "steps": built.steps, "runs": built.runs,
        "unknown_trips": built.unknown_trips, **memory, **cost.summary(kernels, scale),
        "compile_seconds": round(seconds, 1),
        "bad_signs": signs.find(module, kernels, memory, scale),
    }  # fmt: skip
    return Compiled(row, text)


def child_environment(source: Path) -> dict[str, str]:
    """The environment of a process that compiles the project's code in `source`."""
    path = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
