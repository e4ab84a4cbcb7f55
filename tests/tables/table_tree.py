"""The file of a small table, as a tree."""

from typing import Any

TREE: dict[str, Any] = {
    "title": "A small table",
    "source": ["rfad_1"],
    "not_found": "nobody knows",
    "command": (
        'distill method=rfad dataset={dataset} ipc={ipc} seed={seed} "evaluation=[krr_nngp]"'
    ),
    "seeds": [0, 1, 2],
    "rows": {"axes": {"dataset": ["mnist", "digits"], "ipc": [1, 10]}, "without": ["digits/ipc10"]},
    "columns": {"fixed": {"published": {"method": "rfad", "labels": "fixed"}}},
    "metrics": [
        {"kind": "accuracy", "protocol": "krr_nngp", "title": "accuracy"},
        {"kind": "baseline", "protocol": "krr_nngp"},
    ],
}
