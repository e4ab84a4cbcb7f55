"""distill-apply continual: class-incremental learning from a memory of distilled images."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from distill_cli.apply import continual
from distill_cli.apply.students import outputs, recipe_of, student
from distill_cli.config import Config
from distill_cli.core.coreset_io import load_coreset
from distill_cli.core.linalg import krr_predict, krr_solve
from distill_cli.core.sharing import Tell, share_out
from distill_cli.core.stats import mean_std
from distill_cli.core.types import Coreset, Dataset
from distill_cli.data.sources import load_dataset
from distill_cli.data.zca import channel_moments
from distill_cli.errors import UserError
from distill_cli.evaluation.protocol import network_key
from distill_cli.kernels.exact import gram
from distill_cli.tasks.apply import (
    Application,
    Ledger,
    Row,
    at_work,
    distilled,
    finish,
    finished,
    result_of,
    say,
    write_csv,
)
from distill_cli.tasks.apply_continual_page import make_page, summary_text
from distill_cli.tasks.evaluate import DEFAULT_RIDGE
from distill_cli.tasks.job import Job
from distill_cli.tasks.problem import ONE_BY_ONE, Problem, load_problem

REGRESSIONS = {"krr_nngp": "nngp", "krr_ntk": "ntk"}
TRAINED = ("dc", "dsa", "frepo")
Predictions = list[np.ndarray]  # one array of predicted classes for each network


def run(application: Application) -> Row:
    """All steps of all orders for every arm; measure after every step."""
    settings, config = application.settings, application.config
    check_protocols(config.evaluation.protocols)
    done = finished(application)
    if done is not None:
        say(application, f"finished before: {application.folder}\n{summary_text(done)}")
        return done
    runs = len(settings.arms) * len(settings.orders) * settings.increments
    plan = (
        f"continual learning on {config.dataset.name}: {settings.increments} steps, orders "
        f"{list(settings.orders)}, {settings.memory} images per class, {runs} memories\n"
        f"  result   {application.folder}"
    )
    with at_work(application, plan) as watch:
        data = load_dataset(config.dataset)
        groups = {
            seed: continual.class_steps(
                continual.class_order(seed, data.classes), settings.increments
            )
            for seed in settings.orders
        }
        ledger, rows, made = Ledger(application), [], []
        for seed, steps in groups.items():
            jobs = jobs_of(application, data, seed, steps)
            problem = load_problem(whole_job(application, data, steps).config)
            for arm in settings.arms:
                found = [distilled(job) for job in jobs[arm]]
                made += [{"arm": arm, "order": seed, "step": t, "classes": steps[t], **one}
                         for t, one in enumerate(found)]  # fmt: skip
                memories = [memory_of(job, steps[t], data) for t, job in enumerate(jobs[arm])]
                hashes = [one["sha256"][:12] for one in found]
                rows += measured(
                    application, ledger, problem, memories, hashes, steps,
                    {"arm": arm, "order": seed},
                )  # fmt: skip
        result = result_of(
            application, config, watch, rows=rows, summary=summary_rows(rows),
            orders={str(seed): steps for seed, steps in groups.items()}, coresets=made,
            seeds={"orders": list(settings.orders), "distillation": "seed + order",
                   "networks": "evaluation.<protocol>.seed"},
        )  # fmt: skip
        write_csv(application.folder / "accuracy.csv", flat(rows))
        finish(application, result, make_page(application, result))
        say(application, summary_text(result))
    return result


def check_protocols(protocols: dict[str, Any]) -> None:
    """UserError for protocols whose predictions cannot be had."""
    allowed = (*REGRESSIONS, *TRAINED)
    for name in protocols:
        if name not in allowed:
            raise UserError(
                f"evaluation={name}: continual measures with one of {', '.join(allowed)}"
            )
    if not protocols:
        raise UserError('evaluation: nothing to measure; give "evaluation=[krr_nngp,dsa]"')


def space(application: Application, data: Dataset, steps: list[list[int]]) -> list[str]:
    """Overrides that put the memories of all steps into one space: constants for the channels, no
    whitening, whose matrix would be another one at every step."""
    settings = application.config.preprocess
    same = ["preprocess.zca=null", "preprocess.pixel_mean=false",
            f"preprocess.per_image={str(settings.per_image).lower()}",
            f"preprocess.standardize={str(settings.standardize).lower()}"]  # fmt: skip
    if not settings.standardize or settings.mean is not None:
        return same
    images, labels = data.train
    if application.settings.statistics == "first":
        images = images[np.isin(labels, steps[0])]
    mean, std = channel_moments(images, data.pixel_max)
    for key, values in (("mean", mean), ("std", std)):
        same.append(f"preprocess.{key}=[{','.join(repr(float(v)) for v in values)}]")
    return same


def whole_job(application: Application, data: Dataset, steps: list[list[int]]) -> Job:
    """A job whose problem has the test images of all classes in the space of the memories."""
    common = space(application, data, steps)
    return application.job([*common, "method=random", "steps=0", "evaluation=none"])


def jobs_of(
    application: Application, data: Dataset, order: int, steps: list[list[int]]
) -> dict[str, list[Job]]:
    """The runs that fill the memory, for every arm and step."""
    settings, config = application.settings, application.config
    common = [*space(application, data, steps), f"ipc={settings.memory}", "evaluation=none",
              f"seed={config.seed + order}"]  # fmt: skip
    # Nothing is chosen by validation there, so its score may be cheap.
    selected = ["method=random", "steps=0", "labels=fixed", "validation.networks=1",
                "validation.per_class=1"]  # fmt: skip
    relabel = str(config.method.name in ONE_BY_ONE).lower()
    arms = {
        "random": [*selected, "init=random"],
        "herding": [*selected, "init=herding"],
        "distilled": [f"dataset.relabel={relabel}"],
    }
    return {
        arm: [
            application.job([*common, *arms[arm], f"dataset.classes=[{','.join(map(str, own))}]"])
            for own in steps
        ]
        for arm in settings.arms
    }


def memory_of(job: Job, own: list[int], data: Dataset) -> Coreset:
    """The coreset of one step with labels as wide as all classes."""
    found = load_coreset(job.folder).coreset
    if job.config.dataset.relabel:
        wide = continual.widened(np.asarray(found.labels), own, data.classes)
        found = found._replace(labels=wide)
    return found


def measured(
    application: Application, ledger: Ledger, problem: Problem, memories: list[Coreset],
    hashes: list[str], steps: list[list[int]], about: Row,
) -> list[Row]:  # fmt: skip
    """Rows of one arm and order: every protocol after every step."""
    protocols = application.config.evaluation.protocols
    limit = application.config.evaluation.limit
    images, labels = (part[:limit] for part in problem.test)
    rows = []
    for name, protocol in protocols.items():
        predictor: Callable[[int], Predictions] = (
            Regression(problem, application.config, REGRESSIONS[name], memories, images)
            if name in REGRESSIONS
            else partial(networks, problem, name, protocol, memories, images)
        )
        for t in range(len(steps)):
            key = f"{about['arm']} {about['order']} {t} {name} {'-'.join(hashes[: t + 1])}"

            def make(t: int = t, name: str = name, predict: Any = predictor) -> list[Row]:
                seen = np.isin(labels, np.concatenate(steps[: t + 1]))
                return [
                    {
                        **about, "step": t, "classes": sum(map(len, steps[: t + 1])),
                        "protocol": name, "network": index, "images": int(seen.sum()),
                        "accuracy": float(np.mean((guess == labels)[seen])),
                        "groups": continual.group_accuracies(guess, labels, steps[: t + 1]),
                    }
                    for index, guess in enumerate(predict(t))
                ]  # fmt: skip

            found = ledger.get(key, make)
            rows += found
            say(application, f"{about['arm']}, order {about['order']}, step {t + 1}, {name}: "
                f"{100 * np.mean([r['accuracy'] for r in found]):.2f} %")  # fmt: skip
    return rows


class Regression:
    """Exact kernel regression on the union of the first memories, with the ridge and the engine of
    the configured run; matrices are kept."""

    def __init__(
        self, problem: Problem, config: Config, kernel: str, memories: list[Coreset],
        images: np.ndarray,
    ) -> None:  # fmt: skip
        self._problem, self._config, self._kernel = problem, config, kernel
        self._memories, self._images = memories, images
        self._columns: dict[int, np.ndarray] = {}

    def __call__(self, t: int) -> Predictions:
        """Predicted classes of all test images after step t."""
        for step in range(t + 1):
            if step not in self._columns:
                support = np.asarray(self._memories[step].images)
                self._columns[step] = self._gram(self._images, support)
        joined = continual.union(self._memories[: t + 1])
        ridge = getattr(self._config.method, "ridge", DEFAULT_RIDGE)
        k_ss = jax.numpy.asarray(self._gram(joined.images, None))
        alpha = krr_solve(k_ss, jax.numpy.asarray(joined.labels), ridge)
        k_ts = np.concatenate([self._columns[step] for step in range(t + 1)], 1)
        return [np.asarray(krr_predict(jax.numpy.asarray(k_ts), alpha)).argmax(1)]

    def _gram(self, a: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        return gram(
            self._problem.architecture, np.asarray(a), b, get=(self._kernel,),
            engine=self._config.evaluation.engine, memory_mb=self._config.evaluation.memory_mb,
        )[self._kernel]  # fmt: skip


def networks(
    problem: Problem, name: str, protocol: Any, memories: list[Coreset], images: np.ndarray, t: int
) -> Predictions:
    """Fresh networks trained on the union, nothing carried over from the step before."""
    joined = continual.union(memories[: t + 1])
    config = dataclasses.replace(protocol, architectures=protocol.architectures[:1])
    recipe = recipe_of(name, config, problem.dataset.name, np.asarray(joined.images).shape)
    x, y = np.asarray(joined.images), np.asarray(joined.labels)

    def one(index: int, tell: Tell) -> np.ndarray:
        del tell
        key = network_key(config.seed, config.architectures[0], index)
        net, variables = student(recipe, config, x, y, key)
        return outputs(net, variables, images).argmax(1)

    return share_out(one, config.networks)


def summary_rows(rows: list[Row]) -> list[Row]:
    """Mean and deviation over orders and networks for every arm, protocol and step; at the last
    step also the forgetting."""
    found = []
    for arm, protocol, step in dict.fromkeys((r["arm"], r["protocol"], r["step"]) for r in rows):
        same = [r for r in rows if (r["arm"], r["protocol"], r["step"]) == (arm, protocol, step)]
        mean, std, n = mean_std([r["accuracy"] for r in same])
        found.append({
            "arm": arm, "protocol": protocol, "step": step, "classes": same[0]["classes"],
            "accuracy": mean, "std": std, "n": n,
            "groups": np.mean([r["groups"] for r in same], 0).tolist(),
            "forgetting": forgotten(rows, arm, protocol, step),
        })  # fmt: skip
    return found


def forgotten(rows: list[Row], arm: str, protocol: str, step: int) -> float | None:
    """Mean forgetting up to a step over orders and networks."""
    series: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        if (row["arm"], row["protocol"]) == (arm, protocol) and row["step"] <= step:
            series.setdefault((row["order"], row["network"]), []).append(row)
    found = [
        continual.forgetting([r["groups"] for r in sorted(one, key=lambda r: r["step"])])
        for one in series.values()
    ]
    return None if found[0] is None else float(np.mean([f for f in found if f is not None]))


def flat(rows: list[Row]) -> list[Row]:
    """One line for each (row, group), for the CSV."""
    return [
        {**{k: v for k, v in row.items() if k != "groups"}, "group": g, "group_accuracy": value}
        for row in rows
        for g, value in enumerate(row["groups"])
    ]
