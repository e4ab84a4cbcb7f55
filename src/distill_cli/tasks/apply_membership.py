"""distill-apply membership: what networks trained on a distilled set give away about its images."""

from functools import partial
from typing import Any

import jax
import numpy as np

from distill_cli.apply import membership
from distill_cli.apply.membership import Outputs
from distill_cli.apply.students import outputs, recipe_of, student
from distill_cli.augment import frepo as operations
from distill_cli.augment import strategy
from distill_cli.core.coreset_io import load_coreset
from distill_cli.core.keys import named_key
from distill_cli.core.stats import mean_std
from distill_cli.core.types import Coreset, one_hot_centred
from distill_cli.data.sources import load_dataset
from distill_cli.errors import UserError
from distill_cli.evaluation import frepo
from distill_cli.init.random import Config as RandomInit
from distill_cli.report.plots import Curve, Level, curves
from distill_cli.report.templating import table
from distill_cli.report.words import percent
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
from distill_cli.tasks.job import Job
from distill_cli.tasks.measure import initial_coreset
from distill_cli.tasks.problem import Problem, load_problem

ARMS = {
    "distilled": "distilled set",
    "raw": "all images of the chunk",
    "subset": "random images, as many as distilled",
}


def run(application: Application) -> Row:
    """Distil every chunk, train students of every arm and length, attack them."""
    settings, config = application.settings, application.config
    if settings.augmentation != "auto":
        strategy.parse(settings.augmentation, operations.OPERATIONS, "apply.augmentation")
    jobs = {chunk: job_of(application, chunk) for chunk in settings.chunks}
    done = finished(application)
    if done is not None:
        say(application, f"finished before: {application.folder}\n{summary_text(done)}")
        return done
    students = len(settings.chunks) * len(ARMS) * len(settings.lengths) * settings.students
    plan = (
        f"membership on {config.dataset.name}: {len(jobs)} chunks of {settings.chunk} images, "
        f"{students} students\n  result   {application.folder}"
    )
    with at_work(application, plan) as watch:
        check_chunks(application)
        ledger, rows, made = Ledger(application), [], {}
        for chunk, job in jobs.items():
            made[chunk] = distilled(job)
            rows += attack_chunk(application, ledger, job, chunk, made[chunk])
        result = result_of(
            application, config, watch, rows=rows, summary=summary_rows(rows),
            matched=matched_rows(summary_rows(rows)),
            coresets=[{"chunk": chunk, **value} for chunk, value in made.items()],
            seeds={"distillation": config.seed, "students": list(range(settings.students)),
                   "attack_folds": config.seed, "bootstrap": config.seed},
        )  # fmt: skip
        write_csv(application.folder / "attacks.csv", flat(rows))
        finish(application, result, make_page(application, result))
        say(application, summary_text(result))
    return result


def job_of(application: Application, chunk: int) -> Job:
    """The distillation of one chunk."""
    size = application.settings.chunk
    rows = f"dataset.rows=[{chunk * size},{(chunk + 1) * size}]"
    return application.job([rows, "evaluation=none"])


def check_chunks(application: Application) -> None:
    """UserError where a chunk is not inside the training split."""
    settings = application.settings
    count = len(load_dataset(application.config.dataset).train.labels)
    last = max(settings.chunks)
    if (last + 1) * settings.chunk > count:
        raise UserError(
            f"apply.chunks: chunk {last} of {settings.chunk} images ends at "
            f"{(last + 1) * settings.chunk}, the training split at {count}"
        )


def attack_chunk(
    application: Application, ledger: Ledger, job: Job, chunk: int, made: Row
) -> list[Row]:
    """Rows of all students of one chunk."""
    settings = application.settings
    problem = load_problem(job.config)
    final = load_coreset(job.folder).coreset
    initial = load_coreset(job.folder / "coreset" / "initial.npz").coreset
    membership.require_optimised(final, initial)
    labels = problem.dataset.train.labels
    targets = np.asarray(one_hot_centred(labels, problem.dataset.classes))
    whole = Coreset(problem.train_subset(np.arange(len(labels))), targets, np.zeros(()))
    sets = {
        "distilled": final, "raw": whole, "subset": initial_coreset(problem, RandomInit()).coreset,
    }  # fmt: skip
    rows = []
    for arm, data in sets.items():
        for length in settings.lengths:
            for index in range(settings.students):
                name = f"{chunk} {arm} {length} {index} {made['sha256']}"
                row = ledger.get(
                    name, partial(attacked, application, problem, data, arm, chunk, length, index)
                )
                rows.append(row)
                say(application, progress_line(row))
    return rows


def progress_line(row: Row) -> str:
    """One student, for the terminal and the log."""
    said = ", ".join(f"{name} {value['auc']:.3f}" for name, value in row["attacks"].items())
    return (
        f"chunk {row['chunk']}, {row['arm']}, {row['length']} updates: accuracy "
        f"{percent(row['accuracy'])}, members {percent(row['member_accuracy'])}; {said}"
    )


def attacked(
    application: Application, problem: Problem, data: Coreset, arm: str, chunk: int, length: int,
    index: int,
) -> Row:  # fmt: skip
    """One student and all attacks on it; its accuracy is that on the test images."""
    settings, seed = application.settings, problem.config.seed
    config = frepo.Config(
        networks=1, width=settings.width, steps=length, learning_rate=settings.learning_rate,
        batch=settings.batch, augmentation=settings.augmentation,
    )  # fmt: skip
    images = np.asarray(data.images)
    recipe = recipe_of("frepo", config, problem.dataset.name, images.shape)
    # The same initial network for every arm.
    key = jax.random.fold_in(named_key(seed, f"student {chunk}"), index)
    net, variables = student(recipe, config, images, np.asarray(data.labels), key)
    test_images, test_labels = problem.test
    said_test = outputs(net, variables, test_images)
    members = np.arange(len(problem.dataset.train.labels))
    said_members = outputs(net, variables, problem.train_subset(members))
    labels = problem.dataset.train.labels
    said_others, other_labels = said_test, test_labels
    if settings.outsiders == "train":
        raw, other_labels = outside_chunk(application, chunk)
        said_others = outputs(net, variables, problem.preprocess.apply_numpy_chunks(raw))
    rng = np.random.default_rng([seed, chunk])
    count = min(len(labels), len(other_labels), settings.attacked or len(labels))
    inside = np.sort(rng.choice(len(labels), count, replace=False))
    outside = np.sort(rng.choice(len(other_labels), count, replace=False))
    seen = Outputs(
        np.concatenate([said_members[inside], said_others[outside]]),
        np.concatenate([labels[inside], other_labels[outside]]),
        np.repeat([True, False], count),
    )
    return {
        "chunk": chunk, "arm": arm, "length": length, "student": index, "images": len(images),
        "accuracy": float(np.mean(said_test.argmax(1) == test_labels)),
        "member_accuracy": float(np.mean(said_members.argmax(1) == labels)),
        "attacked": count,
        "attacks": {name: judged(name, seen, settings, seed) for name in settings.attacks},
    }  # fmt: skip


def outside_chunk(application: Application, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw training images that follow the chunk (those before it where it is the last), as many."""
    size = application.settings.chunk
    train = load_dataset(application.config.dataset).train
    rows = (np.arange((chunk + 1) * size, (chunk + 2) * size)) % len(train.labels)
    rows = np.setdiff1d(rows, np.arange(chunk * size, (chunk + 1) * size))
    return train.images[rows], train.labels[rows]


def judged(name: str, seen: Outputs, settings: Any, seed: int) -> Row:
    """AUC of one attack with its interval."""
    score = membership.scores(name, seen, seed, settings.folds, settings.grid)
    low, high = membership.bootstrap(score, seen.member, settings.bootstrap, settings.level, seed)
    return {"auc": membership.auc(score, seen.member), "low": low, "high": high}


def summary_rows(rows: list[Row]) -> list[Row]:
    """Mean and spread over chunks and students, for every arm and length."""
    found = []
    for arm, length in dict.fromkeys((r["arm"], r["length"]) for r in rows):
        same = [r for r in rows if (r["arm"], r["length"]) == (arm, length)]
        mean, std, n = mean_std([r["accuracy"] for r in same])
        own, _, _ = mean_std([r["member_accuracy"] for r in same])
        attacks = {}
        for name in same[0]["attacks"]:
            middle, spread, _ = mean_std([r["attacks"][name]["auc"] for r in same])
            attacks[name] = {"auc": middle, "std": spread}
        found.append({"arm": arm, "length": length, "accuracy": mean, "std": std, "n": n,
                      "member_accuracy": own, "attacks": attacks})  # fmt: skip
    return found


def matched_rows(summary: list[Row]) -> list[Row]:
    """The other arms at the length whose accuracy is nearest to that of the distilled arm at its
    last length, which is fixed beforehand."""
    last = max(row["length"] for row in summary)
    own = next(r for r in summary if (r["arm"], r["length"]) == ("distilled", last))
    return [
        min((r for r in summary if r["arm"] == arm),
            key=lambda r: (abs(r["accuracy"] - own["accuracy"]), r["length"]))
        if arm != "distilled" else own
        for arm in ARMS
    ]  # fmt: skip


def flat(rows: list[Row]) -> list[Row]:
    """One line per student and attack, for the CSV."""
    return [
        {**{k: v for k, v in row.items() if k != "attacks"}, "attack": name, **value}
        for row in rows
        for name, value in row["attacks"].items()
    ]


def make_page(application: Application, result: Row) -> Page:
    """AUC against accuracy, all attacks, the matched table."""
    settings, summary = application.settings, result["summary"]
    config = application.config
    page = Page(
        f"Membership inference: {result['dataset']}",
        f"{config.method.name}, {config.ipc} per class, from chunks of {settings.chunk} images, "
        f"hardware={config.hardware}; {len(settings.chunks)} chunk(s), students of width "
        f"{settings.width}. 0.5: the attack learns nothing.",
    )
    for name in settings.attacks:
        drawn = []
        for arm, told in ARMS.items():
            found = [r for r in summary if r["arm"] == arm]
            drawn.append(Curve(told, [100 * r["accuracy"] for r in found],
                               [r["attacks"][name]["auc"] for r in found],
                               [r["attacks"][name]["std"] for r in found]))  # fmt: skip
        title = f"{result['dataset']}, attack: {name.replace('_', ' ')}"
        plot = curves(title, "test accuracy of the student, %", "AUC of the attack", drawn,
                      [Level(0.5)])  # fmt: skip
        write_png(application, f"auc_{name}.png", plot)
        if name in (settings.attacks[0], "forest"):
            page.add(f"Attack: {name.replace('_', ' ')}", figure(plot, f"AUC, {name}"))
    head = ("Trained on", "Updates", "Test accuracy", "Members",
            *(name.replace("_", " ") for name in settings.attacks))  # fmt: skip
    page.add(
        "At matched accuracy", table(head, [line_of(r, settings) for r in result["matched"]]),
        note("The distilled arm at its last length; the others at the length whose test accuracy "
             "is nearest to it."),
    )  # fmt: skip
    page.add(
        "All students", table(head, [line_of(r, settings) for r in summary]),
        note(f"Means over {summary[0]['n']} student(s) of each arm and length; ± standard "
             "deviation (n - 1). Intervals of single students, bootstrapped over images, are in "
             "result.json. Low AUC is a statement about these attacks, no guarantee: condensation "
             "gives no formal protection."),
    )  # fmt: skip
    starts = ", ".join(dict.fromkeys(str(c["init"]) for c in result["coresets"]))
    page.add(
        "Distilled sets",
        table(("Chunk", "Method", "Start", "Steps kept", "SHA-256"),
              [[str(c["chunk"]), c["method"], c["init"], str(c["best_step"]), c["sha256"][:16]]
               for c in result["coresets"]]),
        note(f"Distillation started from {starts}; the attacked sets are the optimised ones."),
    )  # fmt: skip
    return page


def line_of(row: Row, settings: Any) -> list[str]:
    """A table line of one arm and length."""
    attacks = [row["attacks"][name] for name in settings.attacks]
    return [
        ARMS[row["arm"]], str(row["length"]), percent(row["accuracy"], row["std"], 1),
        percent(row["member_accuracy"], None, 1),
        *(f"{a['auc']:.3f}" + (f" ± {a['std']:.3f}" if a["std"] is not None else "")
          for a in attacks),
    ]  # fmt: skip


def summary_text(result: Row) -> str:
    """What the terminal says: the matched table."""
    lines = ["  at matched accuracy:"]
    for row in result["matched"]:
        attacks = "  ".join(f"{name} {value['auc']:.3f}" for name, value in row["attacks"].items())
        lines.append(f"  {row['arm']:10} {row['length']:6} updates  {percent(row['accuracy'])}  "
                     f"{attacks}")  # fmt: skip
    return "\n".join(lines)
