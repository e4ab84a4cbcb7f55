"""distill-apply privacy: accuracy against the share of noise pixels; nearest training images."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from distill_cli.apply import privacy
from distill_cli.apply.grams import features_of
from distill_cli.core.coreset_io import load_coreset
from distill_cli.core.keys import named_key
from distill_cli.core.stats import mean_std
from distill_cli.core.types import Coreset
from distill_cli.data.raw import spread
from distill_cli.errors import UserError
from distill_cli.init.random import Config as RandomInit
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.report.plots import Curve, curves
from distill_cli.report.templating import table
from distill_cli.report.words import percent, protocol_title
from distill_cli.tasks.apply import (
    Application,
    Ledger,
    Page,
    Row,
    at_work,
    distilled,
    figure,
    finish,
    finished,
    note,
    result_of,
    say,
    write_csv,
    write_png,
)
from distill_cli.tasks.apply_sheet import Picture, sheet, to_levels
from distill_cli.tasks.job import Job
from distill_cli.tasks.measure import evaluation_problem, initial_coreset, measure
from distill_cli.tasks.problem import Problem, load_problem

BLOCK = 2048  # training images compared at once
HELD_OUT = 500  # test images whose distance is compared with
CENTRED_ON = 2000  # training images whose mean feature vector is taken away
ARMS = {
    "distilled": "distilled, share rho of the pixels noise",
    "masked_real": "real images behind the same mask",
    "noise_labels": "noise images, learned labels",
    "random_real": "real images, whole",
}
LEVELS = ("random_real", "noise_labels")  # arms that have no share of noise


def run(application: Application) -> Row:
    """Distil for every rho and seed, measure the controls, compare with the training images."""
    settings, config = application.settings, application.config
    if not hasattr(config.method, "corruption"):
        raise UserError(
            f"method={config.method.name}: has no corruption; privacy needs rfad or kip"
        )
    seeds = settings.seeds or (config.seed,)
    jobs = {(rho, seed): job_of(application, rho, seed) for rho in settings.rho for seed in seeds}
    extra = {}
    if settings.controls:
        extra = {seed: job_of(application, 1.0, seed, "labels=learned") for seed in seeds}
    done = finished(application)
    if done is not None:
        say(application, f"finished before: {application.folder}\n{summary_text(done)}")
        return done
    plan = (
        f"privacy on {config.dataset.name}: {len(jobs) + len(extra)} distillations, rho "
        f"{list(settings.rho)}, seeds {list(seeds)}\n  result   {application.folder}"
    )
    with at_work(application, plan) as watch:
        runs = {key: distilled(job) for key, job in jobs.items()}
        noise = {seed: distilled(job) for seed, job in extra.items()}
        ledger = Ledger(application)
        rows, images = [], {}
        for (rho, seed), job in jobs.items():
            found = arms_of(application, ledger, job, rho, runs[rho, seed])
            images[rho, seed] = found.pop("images")
            rows += found["rows"]
        for seed, made in noise.items():
            rows += rows_of(made["evaluations"], "noise_labels", 1.0, seed)
        problem = load_problem(next(iter(jobs.values())).config)
        near = distances(problem, images, settings)
        result = result_of(
            application, jobs[settings.rho[0], seeds[0]].config, watch, seeds=list(seeds),
            rows=rows, summary=summary_rows(rows), distances=distance_rows(near),
            coresets=[{"rho": rho, **made} for (rho, _), made in runs.items()]
            + [{"rho": 1.0, "control": "noise_labels", **made} for made in noise.values()],
        )  # fmt: skip
        write_csv(application.folder / "accuracy.csv", rows)
        write_csv(application.folder / "distances.csv", result["distances"])
        finish(application, result, make_page(application, problem, images, near, result))
        say(application, summary_text(result))
    return result


def job_of(application: Application, rho: float, seed: int, *more: str) -> Job:
    """The distillation with this share of noise; corruption needs pixels, so no whitening."""
    changes = [f"seed={seed}", "init=noise", "preprocess.zca=null", f"method.corruption={rho}"]
    return application.job([*changes, *more])


def rows_of(evaluations: list[Row], arm: str, rho: float | None, seed: int) -> list[Row]:
    """Rows of result.json from the evaluations of a run."""
    return [
        {
            "arm": arm, "rho": rho, "seed": seed, "protocol": e["protocol"],
            "accuracy": e["accuracy"], "std": e["std"], "n": e["n"], "images": e["images"],
        }
        for e in evaluations
    ]  # fmt: skip


def arms_of(application: Application, ledger: Ledger, job: Job, rho: float, made: Row) -> Row:
    """{rows, images}: measured arms of one (rho, seed); images of the coreset and the control.

    Checks that the pixels that must be noise are noise.
    """
    seed = job.config.seed
    final = load_coreset(job.folder).coreset
    initial = load_coreset(job.folder / "coreset" / "initial.npz").coreset
    mask = privacy.frozen_mask(seed, np.asarray(initial.images), rho)
    privacy.check_frozen(np.asarray(final.images), np.asarray(initial.images), mask, rho)
    rows = rows_of(made["evaluations"], "distilled", rho, seed)
    baseline = [
        {**e, **e["baseline_random"]} for e in made["evaluations"] if "baseline_random" in e
    ]
    if rho == application.settings.rho[0]:
        rows += rows_of(baseline, "random_real", 0.0, seed)
    images = {"distilled": np.asarray(final.images), "mask": mask}
    if application.settings.controls:
        problem = load_problem(job.config)
        real = initial_coreset(problem, RandomInit()).coreset
        masked = privacy.behind_mask(np.asarray(real.images), np.asarray(initial.images), mask)
        images["masked_real"] = masked
        control = Coreset(masked, real.labels, np.zeros((), np.float64))
        rows += ledger.get(
            f"masked_real {rho} {seed} {made['sha256']}",
            partial(control_rows, problem, control, rho, seed),
        )
    return {"rows": rows, "images": images}


def control_rows(problem: Problem, control: Coreset, rho: float, seed: int) -> list[Row]:
    """The protocols of the run on a set that was not distilled."""
    evaluation = dataclasses.replace(problem.config.evaluation, baseline=False)
    names = list(evaluation.protocols)
    ridge = getattr(problem.config.method, "ridge", 5e-3)
    target = evaluation_problem(problem, evaluation, names, ridge, lambda what, done: None)
    return rows_of(
        list(measure(names, evaluation, control, None, target)), "masked_real", rho, seed
    )


def summary_rows(rows: list[Row]) -> list[Row]:
    """Mean and spread over seeds of every (arm, rho, protocol); one seed: spread over networks."""
    found = []
    for arm, rho, protocol in dict.fromkeys((r["arm"], r["rho"], r["protocol"]) for r in rows):
        same = [r for r in rows if (r["arm"], r["rho"], r["protocol"]) == (arm, rho, protocol)]
        mean, std, n = mean_std([r["accuracy"] for r in same])
        found.append({"arm": arm, "rho": rho, "protocol": protocol, "accuracy": mean, "std": std,
                      "seeds": n, "networks": same[0]["n"]})  # fmt: skip
    return found


def distances(problem: Problem, images: dict[Any, Row], settings: Any) -> dict[str, Any]:
    """{space: {(arm, rho, seed): Nearest}} over all training images: pixels, random features, and
    the pixels that are not noise; held-out test images and noise for comparison."""
    sets = {
        (arm, *key): value
        for key, arms in images.items()
        for arm, value in arms.items()
        if arm != "mask"
    }
    masks = {name: images[name[1:]]["mask"] for name in sets}
    held = spread(problem.test[1], HELD_OUT)
    sets["held_out", None, None] = problem.test[0][held]
    shape = (HELD_OUT, *problem.dataset.image_shape)
    sets["noise", None, None] = np.random.default_rng(problem.config.seed).standard_normal(shape)
    height, width, channel = problem.dataset.image_shape
    kernel = RandomFeatureKernel(problem.architecture, (height, width, channel), settings.networks)
    key = named_key(problem.config.seed, "apply/kernel")
    phi = features_of(kernel, jax.jit(kernel.sample)(key), problem.micro)
    centre = phi(problem.train_subset(spread(problem.dataset.train.labels, CENTRED_ON))).mean(0)

    def flat(x: np.ndarray) -> np.ndarray:
        return problem.preprocess.invert(x).reshape(len(x), -1)

    spaces = {
        "pixels": lambda x: privacy.standardised(flat(x)),
        "features": lambda x: privacy.unit(phi(x) - centre),
    }
    joined = np.concatenate([np.asarray(x, np.float32) for x in sets.values()])
    ends = np.cumsum([len(x) for x in sets.values()])[:-1]
    count = len(problem.dataset.train.labels)
    found = {}

    def blocks(vectors: Any) -> Iterator[np.ndarray]:
        for at in range(0, count, BLOCK):
            yield vectors(problem.train_subset(np.arange(at, min(at + BLOCK, count))))

    def split(near: privacy.Nearest, names: list[Any], ends: np.ndarray) -> dict[Any, Any]:
        parts = zip(np.split(near.rows, ends), np.split(near.distances, ends), strict=True)
        return {name: privacy.Nearest(*part) for name, part in zip(names, parts, strict=True)}

    for space, vectors in spaces.items():
        near = privacy.nearest(vectors(joined), blocks(vectors))
        found[space] = split(near, list(sets), ends)
    queries = flat(np.concatenate([sets[name] for name in masks]))
    free = ~np.concatenate(list(masks.values())).reshape(queries.shape)
    ends = np.cumsum([len(mask) for mask in masks.values()])[:-1]
    near = privacy.nearest_free(queries, free, blocks(flat))
    found["free_pixels"] = split(near, list(masks), ends)
    return found


def distance_rows(near: dict[str, Any]) -> list[Row]:
    """Quantiles of the distance to the nearest training image."""
    return [
        {
            "space": space, "set": arm, "rho": rho, "seed": seed, "images": len(found.rows),
            "smallest": float(found.distances.min()), "median": float(np.median(found.distances)),
            "largest": float(found.distances.max()),
        }
        for space, sets in near.items()
        for (arm, rho, seed), found in sets.items()
    ]  # fmt: skip


def panel(
    problem: Problem, images: dict[Any, Row], near: dict[str, Any], count: int, seed: int
) -> bytes:
    """For each rho a line of coreset images, and one of nearest training images for each space."""
    lines, names = [], problem.dataset.class_names
    for (rho, of), arms in images.items():
        if of != seed:
            continue
        made = arms["distilled"]
        chosen = np.unique(np.linspace(0, len(made) - 1, min(count, len(made))).round().astype(int))
        seen = to_levels(problem.preprocess.invert(made[chosen]))
        line = [Picture(p, (f"rho {rho:g}" if i == 0 else "",)) for i, p in enumerate(seen)]
        lines.append(line)
        for space in ("pixels", "features", "free_pixels"):
            found = near[space]["distilled", rho, seed]
            line = []
            for i in chosen:
                row = found.rows[i]
                raw = problem.dataset.train.images[row][None] / problem.dataset.pixel_max
                told = (f"{space.partition('_')[0]} {found.distances[i]:.2f}",
                        names[problem.dataset.train.labels[row]])  # fmt: skip
                line.append(Picture(to_levels(raw)[0], told))
            lines.append(line)
    return sheet(
        f"{problem.dataset.name}: coreset images and their nearest training images", lines,
        note="Distance of standardised images, 0 for the same image, 1.41 for unrelated ones.",
    )  # fmt: skip


def make_page(
    application: Application, problem: Problem, images: dict[Any, Row], near: dict[str, Any],
    result: Row,
) -> Page:  # fmt: skip
    """Curves, panel, tables."""
    name, seeds = problem.dataset.name, result["seeds"]
    page = Page(
        f"Noise coresets: {name}",
        f"{problem.config.method.name}, {problem.config.ipc} per class, "
        f"hardware={problem.config.hardware}, {len(seeds)} seed(s). rho: share of pixels that "
        "stay noise.",
    )
    for protocol in dict.fromkeys(row["protocol"] for row in result["summary"]):
        drawn = []
        for arm, told in ARMS.items():
            found = [r for r in result["summary"] if (r["arm"], r["protocol"]) == (arm, protocol)]
            found.sort(key=lambda r: r["rho"])
            if found and arm in LEVELS:  # one number: a level
                found = [{**found[0], "rho": rho} for rho in sorted(application.settings.rho)]
            if found:
                drawn.append(Curve(told, [r["rho"] for r in found],
                                   [100 * r["accuracy"] for r in found],
                                   [100 * (r["std"] or 0) for r in found],
                                   line="--" if arm in LEVELS else "-"))  # fmt: skip
        plot = curves(f"{name}, {protocol_title(protocol)}", "rho", "test accuracy, %", drawn)
        write_png(application, f"accuracy_{protocol}.png", plot)
        page.add(protocol_title(protocol), figure(plot, f"accuracy against rho, {protocol}"))
    head = ("Arm", "rho", "Protocol", "Accuracy", "Seeds")
    rows = [
        [ARMS[r["arm"]], f"{r['rho']:g}", r["protocol"], percent(r["accuracy"], r["std"]),
         str(r["seeds"])]
        for r in result["summary"]
    ]  # fmt: skip
    told = note("± is the standard deviation over seeds (n - 1); none for one seed.")
    page.add("Accuracy", table(head, rows), told)
    picture = write_png(
        application, "nearest.png",
        panel(problem, images, near, application.settings.panel, seeds[0]),
    )  # fmt: skip
    head = ("Set", "Space", "rho", "Seed", "Smallest", "Median")
    rows = [distance_line(r) for r in result["distances"]]
    page.add(
        "Nearest training images", figure(picture, "nearest training images"), table(head, rows),
        note("Compared with all training images; held out: test images; free pixels: only those "
             "that are not noise count. The masked real images are copies there, whatever the "
             "other two distances say. This is evidence, no guarantee."),
    )  # fmt: skip
    return page


def distance_line(row: Row) -> list[str]:
    """A table line of distance_rows."""
    return [
        row["set"].replace("_", " "), row["space"].replace("_", " "),
        "" if row["rho"] is None else f"{row['rho']:g}",
        "" if row["seed"] is None else str(row["seed"]),
        f"{row['smallest']:.3f}", f"{row['median']:.3f}",
    ]  # fmt: skip


def summary_text(result: Row) -> str:
    """What the terminal says."""
    lines = ["  arm           rho    protocol       accuracy"]
    for r in result["summary"]:
        lines.append(f"  {r['arm']:13} {r['rho']:<6g} {r['protocol']:14} "
                     f"{percent(r['accuracy'], r['std'])}  (seeds {r['seeds']})")  # fmt: skip
    return "\n".join(lines)
