"""Independent pieces of work over the chosen devices: networks to train, students, repetitions.

Networks that do not wait for each other need no collective: each device has a host thread, which
works off its share of the pieces and computes on its device alone. Every piece runs the same
program on one device, so its result does not depend on how many devices there are.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from distill_cli.core import devices

T = TypeVar("T")
Tell = Callable[..., None]  # (fraction of this piece in [0, 1], message)
Report = Callable[[str, float], None]  # (message, fraction of all pieces)


class _Ended(Exception):
    """Raised in the other threads once one has failed."""


def places() -> tuple[Any, ...]:
    """The chosen devices of this process; on a CPU the first alone.

    A CPU's devices have the same cores: two threads train two networks no faster than one does one
    after the other, and compile twice.
    """
    here = jax.process_index()
    chosen = tuple(device for device in devices.chosen() if device.process_index == here)
    return chosen[:1] if chosen[0].platform == "cpu" else chosen


def share_out(
    work: Callable[[int, Tell], T],
    count: int,
    report: Report = lambda message, fraction: None,
) -> list[T]:
    """[work(0, tell), ..., work(count - 1, tell)], computed side by side on the chosen devices.

    `work` makes its arrays itself, keys too, or takes them from the host: what it creates lies on
    its device (jax.default_device of the thread); place d of n takes pieces d, d + n, ... It calls
    tell(fraction, message) now and then, and `report` is told (message, mean fraction of all
    pieces), by one thread at a time and never a smaller fraction than before. An error, also one
    that report raises, ends the other pieces at their next tell and comes out of this function. In
    one place everything happens in order in the caller's thread.
    """
    chosen = places()[:count]
    fractions = [0.0] * count
    lock = threading.Lock()
    errors: list[BaseException] = []

    def teller(index: int) -> Tell:
        def tell(fraction: float, message: str = "") -> None:
            with lock:
                if errors:
                    raise _Ended
                fractions[index] = max(fractions[index], fraction)
                report(message, sum(fractions) / count)

        return tell

    if len(chosen) <= 1:
        return [work(index, teller(index)) for index in range(count)]
    results: list[Any] = [None] * count

    def serve(first: int, device: Any) -> None:
        try:
            with jax.default_device(device):
                for index in range(first, count, len(chosen)):
                    tell = teller(index)
                    tell(0.0)
                    results[index] = work(index, tell)
        except _Ended:
            return
        except BaseException as error:
            with lock:
                errors.append(error)

    threads = [threading.Thread(target=serve, args=pair) for pair in enumerate(chosen)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:  # Ctrl-C: the threads end at their next tell
        with lock:
            errors.append(error)
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return results
