"""distill-apply explain: which coreset images, and which training images, decide a prediction."""

from typing import Any, NamedTuple

import numpy as np

from distill_cli.apply import explain
from distill_cli.apply.explain import ElementSummary, Solution
from distill_cli.apply.grams import Grams, exact_grams, mean_grams, random_grams
from distill_cli.core.coreset_io import CoresetFile, sha256
from distill_cli.data.raw import spread
from distill_cli.report.plots import bars
from distill_cli.report.templating import table
from distill_cli.report.words import percent
from distill_cli.tasks.apply import (
    Application,
    Page,
    Row,
    at_work,
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
from distill_cli.tasks.coreset_fits import ready
from distill_cli.tasks.evaluate import DEFAULT_RIDGE
from distill_cli.tasks.measure import PARTIAL
from distill_cli.tasks.problem import Problem, load_problem


class Explained(NamedTuple):
    """Everything the outputs are made of. labels, predicted, second: of the test images; outputs
    (m, class); contribution, margin, effect (m, n): to the predicted class, to predicted minus
    runner-up, and by leaving out; train_rows and nearest: training images behind each element."""

    labels: np.ndarray
    predicted: np.ndarray
    second: np.ndarray
    outputs: np.ndarray
    alpha: np.ndarray
    contribution: np.ndarray
    margin: np.ndarray
    effect: np.ndarray
    summary: ElementSummary
    nearest: np.ndarray
    cosines: np.ndarray


def run(application: Application) -> Row:
    """Explain every test image; write strips, tables and the page.

    Raises UserError for a coreset that does not fit the dataset, and for a singular K_ss.
    """
    target = application.config
    settings, config = application.settings, target.config
    hashes = {"coreset": sha256(target.file.path)}
    done = finished(application, hashes)
    if done is not None:
        say(application, f"finished before: {application.folder}\n{summary_text(done)}")
        return done
    plan = f"explain {target.file.path} with {settings.kernel}\n  result   {application.folder}"
    with at_work(application, plan) as watch:
        problem, file = ready(load_problem(config), target)
        ridge = settings.ridge
        if ridge is None:
            ridge = DEFAULT_RIDGE if file.ridge is None else file.ridge
        limit = config.evaluation.limit
        labels = problem.test[1][:limit]
        count = settings.train_images
        train_labels = problem.dataset.train.labels
        rows = np.arange(len(train_labels)) if count is None else spread(train_labels, count)
        draws = matrices(application, problem, file, problem.test[0][:limit], rows)
        found = explained(mean_grams(draws), file, ridge, labels, train_labels[rows], settings)
        found = found._replace(nearest=rows[found.nearest])
        stability = draw_stability(draws, file, ridge, found.predicted)
        content = numbers(found, file, ridge, stability, len(rows))
        result = result_of(application, config, watch, hashes=hashes, **content)
        result["coreset"] = {
            "path": str(file.path), "sha256": hashes["coreset"], "format": file.format,
            "images": list(file.coreset.images.shape), "note": file.note,
        }  # fmt: skip
        write_tables(application, found, file)
        page = make_page(application, problem, file, found, result)
        finish(application, result, page)
        say(application, summary_text(result))
    return result


def matrices(
    application: Application,
    problem: Problem,
    file: CoresetFile,
    test: np.ndarray,
    rows: np.ndarray,
) -> list[Grams]:
    """One set of matrices for an exact kernel, `draws` of them for random features."""
    settings, config = application.settings, problem.config
    support, train = np.asarray(file.coreset.images), problem.train_subset(rows)
    if settings.kernel == "random_features":
        return [
            random_grams(
                problem.architecture, support, test, train, networks=settings.networks,
                seed=config.seed, draw=draw, micro=problem.micro,
            )
            for draw in range(settings.draws)
        ]  # fmt: skip
    evaluation = config.evaluation
    return [
        exact_grams(
            problem.architecture, settings.kernel, support, test, train, engine=evaluation.engine,
            memory_mb=evaluation.memory_mb, keep=application.folder / PARTIAL,
        )
    ]  # fmt: skip


def explained(
    grams: Grams, file: CoresetFile, ridge: float, labels: np.ndarray, train_labels: np.ndarray,
    settings: Any,
) -> Explained:  # fmt: skip
    """All numbers, from the matrices."""
    solution = explain.solve(grams.ss, np.asarray(file.coreset.labels), ridge)
    alpha = explain.weights(grams.xs, solution)
    outputs = alpha @ solution.targets
    predicted, second = outputs.argmax(1), explain.runner_up(outputs)
    contribution = explain.contributions(alpha, solution, predicted)
    on_train = explain.weights(grams.ts, solution)
    to_true = explain.contributions(on_train, solution, train_labels)
    nearest, cosines = explain.nearest_by_kernel(
        grams.ts, grams.t, np.diag(grams.ss), settings.nearest
    )
    return Explained(
        labels, predicted, second, outputs, alpha, contribution,
        contribution - explain.contributions(alpha, solution, second),
        explain.leave_one_out_effects(alpha, solution, predicted),
        explain.summarise(contribution, predicted == labels, to_true), nearest, cosines,
    )  # fmt: skip


def draw_stability(
    draws: list[Grams], file: CoresetFile, ridge: float, predicted: np.ndarray
) -> float | None:
    """Mean Spearman correlation of the contributions between pairs of draws; None for one."""
    if len(draws) < 2:
        return None
    parts = []
    for grams in draws:
        solution: Solution = explain.solve(grams.ss, np.asarray(file.coreset.labels), ridge)
        alpha = explain.weights(grams.xs, solution)
        parts.append(explain.contributions(alpha, solution, predicted))
    pairs = [(i, j) for j in range(len(parts)) for i in range(j)]
    found = [explain.spearman(parts[i], parts[j]) for i, j in pairs]
    return float(np.mean([value for value in found if value is not None]))


def numbers(
    found: Explained, file: CoresetFile, ridge: float, stability: float | None, train: int
) -> Row:
    """The application's own content of result.json."""
    own = np.asarray(file.coreset.labels).argmax(1)
    own_class = own[found.contribution.argmax(1)] == found.predicted
    gap = np.abs(found.contribution.sum(1) - found.outputs[range(len(own_class)), found.predicted])
    summary = found.summary
    return {
        "ridge": ridge, "test_images": len(found.labels), "train_images": train,
        "accuracy": float(np.mean(found.predicted == found.labels)),
        "top_element_is_of_predicted_class": float(own_class.mean()),
        "spearman_contribution_effect": explain.spearman(found.contribution, found.effect),
        "spearman_between_draws": stability,
        "largest_gap_of_the_sum": float(gap.max()),
        "rows": [
            {
                "element": i, "class": int(own[i]),
                "mean_absolute_contribution": float(summary.mean_absolute[i]),
                "top_share": float(summary.top_share[i]),
                "top_correct": None if np.isnan(summary.top_correct[i])
                else float(summary.top_correct[i]),
                "served_train_share": float(summary.served[i]),
                "nearest_train_rows": found.nearest[i].tolist(),
                "nearest_cosines": [round(float(c), 6) for c in found.cosines[i]],
            }
            for i in range(len(own))
        ],
    }  # fmt: skip


def write_tables(application: Application, found: Explained, file: CoresetFile) -> None:
    """contributions.csv, one line per (test image, element), and elements.csv."""
    count = application.settings.table
    own = np.asarray(file.coreset.labels).argmax(1)
    rank, effect_rank = explain.ranks(found.contribution), explain.ranks(found.effect)
    lines = [
        {
            "test_image": x, "label": int(found.labels[x]), "predicted": int(found.predicted[x]),
            "element": i, "element_class": int(own[i]), "weight": float(found.alpha[x, i]),
            "contribution": float(found.contribution[x, i]),
            "margin_contribution": float(found.margin[x, i]),
            "leave_one_out": float(found.effect[x, i]), "rank": int(rank[x, i]),
            "leave_one_out_rank": int(effect_rank[x, i]),
        }
        for x in range(len(found.labels) if count is None else min(count, len(found.labels)))
        for i in range(len(own))
    ]  # fmt: skip
    write_csv(application.folder / "contributions.csv", lines)
    write_csv(
        application.folder / "elements.csv",
        [
            {k: v for k, v in row.items() if not k.startswith("nearest")}
            for row in numbers(found, file, 0.0, None, 0)["rows"]
        ],
    )


def shown_images(found: Explained, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(the first test images, evenly over the classes; the first that are predicted wrongly)."""
    return (
        spread(found.labels, count),
        np.flatnonzero(found.predicted != found.labels)[:count],
    )


def strips(
    application: Application, problem: Problem, file: CoresetFile, found: Explained,
    images: np.ndarray, title: str,
) -> bytes:  # fmt: skip
    """One line per test image: image; its top elements, each with training images; the element
    that speaks most against."""
    settings, names = application.settings, problem.dataset.class_names
    elements = to_levels(problem.preprocess.invert(np.asarray(file.coreset.images)))
    scale = problem.dataset.pixel_max
    own = np.asarray(file.coreset.labels).argmax(1)
    lines = []
    for x in images:
        right = found.predicted[x] == found.labels[x]
        raw = to_levels(problem.dataset.test.images[x][None] / scale)[0]
        told = (f"is {names[found.labels[x]]}", f"predicted {names[found.predicted[x]]}")
        line = [Picture(raw, told, "good" if right else "bad", size=1.0)]
        order = np.argsort(-found.contribution[x], kind="stable")
        for place, i in enumerate([*order[: settings.top], order[-1]]):
            against = place == min(settings.top, len(order))
            value, effect = found.contribution[x, i], found.effect[x, i]
            told = (f"{names[own[i]]}: {value:+.3f}", f"left out: {effect:+.3f}")
            tone = "good" if value > 0 else "bad"
            line.append(Picture(elements[i], told, tone, 40 if against else 22))
            for row in found.nearest[i]:
                train = to_levels(problem.dataset.train.images[row][None] / scale)[0]
                line.append(Picture(train, size=0.5))
        lines.append(line)
    return sheet(
        title, lines, note="Left: test image. Then the elements that contribute most to the "
        "predicted class, each with the training images most similar to it; last, the one that "
        "speaks most against.",
    )  # fmt: skip


def element_sheet(problem: Problem, file: CoresetFile, found: Explained, most: int = 40) -> bytes:
    """Each element with the training images that it stands for."""
    elements = to_levels(problem.preprocess.invert(np.asarray(file.coreset.images)))
    own, names = np.asarray(file.coreset.labels).argmax(1), problem.dataset.class_names
    lines = []
    for i in range(min(len(own), most)):
        share = found.summary.served[i]
        line = [Picture(elements[i], (f"{i}: {names[own[i]]}", f"serves {100 * share:.1f} %"))]
        for place, row in enumerate(found.nearest[i]):
            train = to_levels(problem.dataset.train.images[row][None] / problem.dataset.pixel_max)
            label = names[problem.dataset.train.labels[row]]
            told = (label, f"cos {found.cosines[i, place]:.3f}")
            line.append(Picture(train[0], told, space=14 if place == 0 else 0))
        lines.append(line)
    return sheet("Coreset elements and the training images most similar to them", lines)


def make_page(
    application: Application, problem: Problem, file: CoresetFile, found: Explained, result: Row
) -> Page:
    """The page with all pictures."""
    settings, names = application.settings, problem.dataset.class_names
    first, wrong = shown_images(found, settings.shown)
    page = Page(
        f"Why: {problem.dataset.name}, {len(file.coreset.images)} images",
        f"Exact shares of kernel regression ({settings.kernel}) on a coreset. "
        f"{percent(result['accuracy'])} of {result['test_images']} test images are right.",
    )
    strip = strips(application, problem, file, found, first, "First test images of the classes")
    page.add(
        "Explanations",
        figure(write_png(application, "strips.png", strip), "test images with their elements"),
        note("The test images are the first ones of each class, not chosen by result."),
    )
    if len(wrong):
        picture = strips(application, problem, file, found, wrong, "First wrong predictions")
        page.add(
            "Mistakes",
            figure(write_png(application, "mistakes.png", picture), "wrong predictions"),
        )
    picture = element_sheet(problem, file, found)
    page.add("Elements", figure(write_png(application, "elements.png", picture), "elements"))
    labels = [f"{row['element']}: {names[row['class']]}" for row in result["rows"]]
    plot = bars(
        "Mean absolute contribution to the predicted class", "contribution", labels,
        found.summary.mean_absolute.tolist(),
    )  # fmt: skip
    head = ("Element", "Mean |contribution|", "Top for", "Right where top", "Serves of training")
    rows = [
        [label, f"{row['mean_absolute_contribution']:.4f}", percent(row["top_share"]),
         percent(row["top_correct"]), percent(row["served_train_share"])]
        for label, row in zip(labels, result["rows"], strict=True)
    ]  # fmt: skip
    page.add(
        "Summary over the test set",
        figure(write_png(application, "summary.png", plot), "mean contribution of each element"),
        table(head, rows),
        note(
            "Contributions of all elements add up to the output (largest gap "
            f"{result['largest_gap_of_the_sum']:.1e}). Served: share of "
            f"{result['train_images']} training images to whose true class the element "
            "contributes most."
        ),
    )
    return page


def summary_text(result: Row) -> str:
    """What the terminal says."""
    lines = [
        f"  accuracy {percent(result['accuracy'])} of {result['test_images']} test images",
        f"  the top element is of the predicted class for "
        f"{percent(result['top_element_is_of_predicted_class'])}",
    ]
    for key, text in (
        ("spearman_contribution_effect", "rank correlation of contribution and leave-one-out"),
        ("spearman_between_draws", "rank correlation between kernel draws"),
    ):
        if result[key] is not None:
            lines.append(f"  {text} {result[key]:.3f}")
    return "\n".join(lines)
