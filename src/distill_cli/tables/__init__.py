"""Tables of papers and of this project: what a cell is, what was measured, what was published.

    spec        a table's YAML file as cells with their exact commands
    metrics     numbers of a cell, from result files
    measured    mean, spread, cost over a cell's seeds
    verdict     pass or fail against a published or recorded figure
    registry    docs/results/expected.json
    show        a table as rows of text; render writes them in five formats

Nothing here imports jax or starts a run: `tasks/table.py` does that.
"""
