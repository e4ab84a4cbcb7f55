"""Words of a run that ends in seconds, for tests of what a command does around it."""

TINY = (
    "steps=20", "architecture.width=8", "kernel.networks=2", "batch.size=64", "validation.every=10",
    "validation.networks=2", "progress=plain",
)  # fmt: skip
