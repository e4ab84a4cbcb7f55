"""Stage f: milliseconds per step of FRePo at published size, ten steps to a program; then in
micro-batches, and with eight networks of the pool a step."""

import sys
from typing import Any

import jax

from distill_cli.tasks.runtime import configure_jax
from gpu_stages.problems import CIFAR, SMALL, compiled, distiller, median_ms, points, seconds_of
from gpu_stages.record import Record, parse

STEPS = 10
TINY = ("method.width=8", "method.pool=2", "batch.size=16")


def main() -> int:
    call = parse()
    record = Record(call.record)
    configure_jax()
    overrides = ["method=frepo", "dataset=cifar10", "ipc=10", *(TINY if call.rehearse else ())]
    shape = SMALL if call.rehearse else CIFAR
    cells = [("null", 1), ("null", 2)] if call.rehearse else [("null", 1), ("512", 1), ("null", 8)]
    for micro, networks in cells:
        with record.guarded("frepo", ipc=10, micro=micro, networks=networks) as row:
            own = [f"batch.micro={micro}", f"method.networks={networks}"]
            method, config = distiller([*overrides, *own], shape)
            row["batch"] = config.batch.size
            problem = jax.device_put(points(100, config.batch.size, shape))
            state = method.init(jax.random.key(0), problem[0])

            def chunk(state: Any, batch: Any, keys: Any, method: Any = method) -> Any:
                return jax.lax.scan(lambda state, key: method.step(state, batch, key), state, keys)

            keys = jax.random.split(jax.random.key(1), STEPS)
            program, facts = compiled(chunk, state, problem[1], keys)
            row |= facts
            state, _ = program(state, problem[1], keys)

            def ten(program: Any = program, state: Any = state, batch: Any = problem[1]) -> Any:
                return program(state, batch, keys)  # noqa: B023

            times = [taken / STEPS for taken in seconds_of(ten, 2 if call.rehearse else 10)]
            row |= {"ms_per_step": median_ms(times), "steps_per_second": len(times) / sum(times)}
        if call.left() < 25 and not call.rehearse:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
