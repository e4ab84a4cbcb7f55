"""How the authors of foreign coresets measured theirs, and which protocols of this program do the
same. A figure under another protocol does not compare with the published one."""

from collections.abc import Iterable
from typing import NamedTuple


class Origin(NamedTuple):
    """protocols: those that are the authors' own; () where none is, and `instead` says what they
    do."""

    protocols: tuple[str, ...]
    instead: str = ""


ORIGINS = {
    "RFAD": Origin(("krr_nngp", "krr_ntk", "finite")),
    "KIP": Origin(("krr_ntk", "kip_finite")),
    "FRePo": Origin(("frepo",)),
    # Loo et al., ICML 2023, released program.
    "RCIG": Origin(
        (), "five networks, Adam at 1e-4, images doubled by flips, one augmentation for each image"
    ),
    "DC": Origin(("dc",)),
    "DSA": Origin(("dsa",)),
    "DM": Origin(("dsa",)),
    "DC, DSA or DM": Origin(("dc", "dsa")),
    # Cazenavette et al., CVPR 2022; the authors say so in their program's issue 23.
    "MTT": Origin((), "a learned rate, and the best of many evaluations on the test images"),
}  # fmt: skip


def not_theirs(origin: str, protocols: Iterable[str]) -> str | None:
    """What to say where some of `protocols` are not those of the coreset's authors; None where all
    are, or nothing is known. `held_out` compares with nothing published in any case."""
    known = ORIGINS.get(origin)
    other = [name for name in protocols if name != "held_out"]
    if known is None or not (other := [name for name in other if name not in known.protocols]):
        return None
    theirs = f"use {' and '.join(known.protocols)}" if known.protocols else f"have {known.instead}"
    return (
        f"{', '.join(other)} is not how {origin}'s authors measure (they {theirs}); "
        "the figure does not compare with theirs"
    )
