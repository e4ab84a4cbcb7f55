"""What to cite: BibTeX entries that follow from the choices of a run."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from distill_cli.report.results import write_text
from distill_cli.report.run_result import RunResult
from distill_cli.report.words import dataset_key, protocol_key

_METHODS = {
    "rfad": ["loo2022rfad"],
    "kip": ["nguyen2021kip", "nguyen2021infinitely"],
    "frepo": ["zhou2022frepo"],
    "dc": ["zhao2021dc"],
    "dsa": ["zhao2021dsa"],
    "dm": ["zhao2023dm"],
    "label_solve": ["nguyen2021kip", "nguyen2021infinitely"],
}
_DATASETS = {
    "mnist": ["lecun1998mnist"],
    "split_mnist": ["lecun1998mnist"],
    "kmnist": ["clanuwat2018kmnist"],
    "fashion_mnist": ["xiao2017fashion"],
    "cifar10": ["krizhevsky2009cifar"],
    "cifar100": ["krizhevsky2009cifar"],
    "svhn": ["netzer2011svhn"],
    "celeba": ["liu2015celeba"],
    "digits": ["alpaydin1998digits", "pedregosa2011sklearn"],
    "tiny_imagenet": ["le2015tiny"],
    "tiny_imagenet10": ["le2015tiny"],
}
_SENSITIVITY = {
    "krr_sensitivity", "ridge_leverage", "kmeans_sensitivity", "one_per_cluster", "loss_importance",
}  # fmt: skip
_REASONS = {
    "loo2022rfad": "the RFAD method and its random-feature kernel",
    "nguyen2021kip": "kernel inducing points and kernel ridge regression on a coreset",
    "nguyen2021infinitely": "the exact NTK of a convolutional network on coresets",
    "zhou2022frepo": "the FRePo method",
    "zhao2021dc": "the DC method",
    "zhao2021dsa": "the DSA method",
    "zhao2023dm": "the DM method",
    "tukan2023subset": "importance-sampled initial images and batches",
    "novak2020neural": "the closed form of the infinite-width kernels",
    "zhuang2020adabelief": "the AdaBelief optimiser",
    "jax2018github": "the array library",
    "lecun1998mnist": "the data set",
    "clanuwat2018kmnist": "the data set",
    "xiao2017fashion": "the data set",
    "krizhevsky2009cifar": "the data set",
    "netzer2011svhn": "the data set",
    "liu2015celeba": "the data set",
    "alpaydin1998digits": "the data set",
    "pedregosa2011sklearn": "the distribution of the data set",
    "le2015tiny": "the data set",
}


@cache
def library() -> dict[str, str]:
    """Every entry of library.bib by its key."""
    text = files("distill_cli.report").joinpath("library.bib").read_text(encoding="utf-8")
    blocks = [block.strip() for block in re.split(r"\n(?=@)", text) if block.strip()]
    return {re.match(r"@\w+\{([^,]+),", block)[1]: block for block in blocks}  # pyright: ignore


def cited(result: RunResult) -> list[tuple[str, str]]:
    """(key, what it is cited for): method, kernels, optimiser, data, software, in this order."""
    method = result.method
    protocols = {protocol_key(e.protocol) for e in result.evaluations}
    keys = list(_METHODS.get(method, []))
    if "krr_ntk" in protocols:
        keys += ["nguyen2021kip", "nguyen2021infinitely"]
    keys += [key for name in ("frepo", "dc", "dsa") if name in protocols for key in _METHODS[name]]
    if method in ("rfad", "kip", "label_solve") or protocols & {"krr_nngp", "krr_ntk"}:
        keys.append("novak2020neural")
    if method == "rfad":
        keys.append("zhuang2020adabelief")  # its optimiser
    if {result.option(group, "name") for group in ("init", "sampler")} & _SENSITIVITY:
        keys.append("tukan2023subset")
    keys += _DATASETS.get(dataset_key(result.dataset), [])
    keys.append("jax2018github")
    return [(key, _REASONS[key]) for key in dict.fromkeys(keys)]


def citations(result: RunResult) -> str:
    """BibTeX of everything `result` builds on, one commented entry after another."""
    entries = [f"% {reason}\n{library()[key]}\n" for key, reason in cited(result)]
    return "\n".join(entries)


def reference(key: str) -> str:
    """One entry as a line of text: first author and others, title, venue, year."""
    fields = dict(re.findall(r"(\w+)\s*=\s*\{(.*)\},?\s*$", library()[key], flags=re.M))
    plain = {name: value.replace("{", "").replace("}", "") for name, value in fields.items()}
    authors = plain["author"].split(" and ")
    first = authors[0].split(",")[0]
    who = {1: first, 2: f"{first} and {authors[-1].split(',')[0]}"}.get(len(authors))
    venue = next((plain[f] for f in ("booktitle", "journal", "institution") if f in plain), None)
    venue = venue or plain.get("howpublished", "software")
    return f"{who or first + ' et al.'}, “{plain['title']}”, {venue}, {plain['year']}"


def write_citations(folder: str | Path, result: RunResult) -> Path:
    """Write `folder`/citations.bib and return its path."""
    return write_text(Path(folder) / "citations.bib", citations(result))
