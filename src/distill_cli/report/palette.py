"""Colours of variants and of the parts of bars, for pages and for figures.

Variants: ten colours that stay apart for readers with full, deuteranopic and protanopic sight
(distance of any two in CIELAB at least 15), each with a contrast of at least 3 to 1 with the page
(tests/report/test_palette.py). A search over these two measures found them.
"""

# (on light, on dark)
COLOURS = (
    ("#0072b2", "#56a9e0"), ("#d06a00", "#ff9d5c"), ("#4a1230", "#bf405b"), ("#2e9e88", "#cffcec"),
    ("#12206b", "#2559f4"), ("#8c1d18", "#ad531f"), ("#0b5365", "#6aafab"), ("#d24bd2", "#955095"),
    ("#a2864e", "#f2f20d"), ("#4c33cc", "#6e87f7"),
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
