"""Colours of variants and of the parts of bars, for pages and for figures.

Variants: Okabe and Ito's palette, which colour-blind readers can tell apart, darkened or lightened
to a contrast of at least 3 to 1 with the page, and three more.
"""

# (on light, on dark)
COLOURS = (
    ("#0072b2", "#56a9e0"), ("#c2410c", "#ff9d5c"), ("#00855f", "#3fcf9f"), ("#a3478a", "#e39bcb"),
    ("#8a6a00", "#e6c02f"), ("#2a86b8", "#8fd0f5"), ("#5b4bb5", "#ab9ff2"), ("#b3261e", "#ff8a80"),
    ("#4d6b1f", "#a9cf6a"), ("#57606c", "#b6bfca"),
)  # fmt: skip
BARS = (("#a8b4c1", "#5b6875"), ("#1d5fa8", "#7db7f5"), ("#a8791b", "#d9a946"))


def css() -> str:
    """Rules `.c0 { --c: ... }` and `.p0 { --p: ... }`, for light pages and dark ones."""
    light, dark = (
        "".join(
            f".{letter}{i}{{--{letter}:{pair[side]}}}"
            for letter, pairs in (("c", COLOURS), ("p", BARS))
            for i, pair in enumerate(pairs)
        )
        for side in (0, 1)
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{{dark}}}\n"
