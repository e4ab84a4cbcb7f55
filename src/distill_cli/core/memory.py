"""Whether arrays of a known size can fit into this machine at all. Imports no jax."""

import os

from distill_cli.errors import UserError


def physical_bytes() -> int | None:
    """The machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def require(bytes_needed: float, what: str, way_out: str) -> None:
    """UserError where more is needed than the machine has: then it is refused before any work."""
    there = physical_bytes()
    if there is not None and bytes_needed > there:
        raise UserError(
            f"{what} needs about {bytes_needed / 2**30:,.1f} GiB, and this machine has "
            f"{there / 2**30:,.1f} GiB; {way_out}"
        )
