"""Page, plots and terminal text of distill-apply continual."""

from distill_cli.report.plots import Curve, curves
from distill_cli.report.templating import table
from distill_cli.report.words import percent, points, protocol_title
from distill_cli.tasks.apply import (
    Application,
    Page,
    Row,
    figure,
    note,
    side_by_side,
    write_png,
)

PUBLISHED_ORDERS = [0, 1, 2, 3, 4]


def make_page(application: Application, result: Row) -> Page:
    """Accuracy against classes seen, what happens to each step's classes, all numbers."""
    settings, config, summary = application.settings, application.config, result["summary"]
    page = Page(
        f"Continual learning: {result['dataset']}",
        f"{settings.increments} steps, {settings.memory} images per class, "
        f"{len(settings.orders)} class order(s), distilled with {config.method.name}, "
        f"hardware={config.hardware}.",
    )
    for protocol in dict.fromkeys(r["protocol"] for r in summary):
        drawn, first = [], []
        for arm in settings.arms:
            own = [r for r in summary if (r["arm"], r["protocol"]) == (arm, protocol)]
            drawn.append(Curve(arm, [r["classes"] for r in own], [100 * r["accuracy"] for r in own],
                               [100 * (r["std"] or 0) for r in own]))  # fmt: skip
            first.append(Curve(arm, [r["classes"] for r in own],
                               [100 * r["groups"][0] for r in own]))  # fmt: skip
        title = f"{result['dataset']}, {protocol_title(protocol)}"
        pieces = [
            figure(write_png(application, f"{name}_{protocol}.png", plot), name)
            for name, plot in (
                ("accuracy", curves(title, "classes seen", "accuracy on them, %", drawn)),
                ("first_step", curves(f"{title}: classes of the first step", "classes seen",
                                      "accuracy on these, %", first)),
                *((f"groups_{arm}", groups_plot(result, arm, protocol)) for arm in settings.arms),
            )
        ]  # fmt: skip
        page.add(protocol_title(protocol), side_by_side(pieces))
    head = ("Arm", "Protocol", "Classes", "Accuracy", "Forgetting, points", "n")
    rows = [
        [r["arm"], r["protocol"], str(r["classes"]), percent(r["accuracy"], r["std"]),
         points(r["forgetting"]), str(r["n"])]
        for r in summary
    ]  # fmt: skip
    told = (
        "± is the standard deviation (n - 1) over n = class orders x networks. Forgetting: mean "
        "over the earlier steps of best accuracy so far minus accuracy now. Outputs of classes "
        "that were not seen are not masked; models start anew at every step."
    )
    page.add("After every step", table(head, rows), note(told), note(deviations(result)))
    orders = [[order, *(", ".join(map(str, step)) for step in steps)]
              for order, steps in result["orders"].items()]  # fmt: skip
    heads = ("Order", *(f"Step {t + 1}" for t in range(settings.increments)))
    page.add("Class orders", table(heads, orders, style="left"))
    return page


def deviations(result: Row) -> str:
    """What differs from the published protocol."""
    settings, found = result["settings"], []
    if result["dataset"] != "cifar100":
        found.append("data set (published: CIFAR-100)")
    if list(settings["orders"]) != PUBLISHED_ORDERS:
        found.append(f"{len(settings['orders'])} class orders instead of 5")
    if settings["memory"] != 20:
        found.append(f"{settings['memory']} images per class instead of 20")
    if result["config"]["hardware"] != "full":
        found.append(f"sizes of hardware={result['config']['hardware']}")
    if settings["statistics"] == "first":
        found.append("channel statistics of the first step only")
    return "Not as published: " + ("; ".join(found) or "nothing in these settings") + "."


def groups_plot(result: Row, arm: str, protocol: str) -> bytes:
    """Accuracy on the classes of each step as more classes come."""
    own = [r for r in result["summary"] if (r["arm"], r["protocol"]) == (arm, protocol)]
    drawn = [
        Curve(f"step {g + 1}", [r["classes"] for r in own[g:]],
              [100 * r["groups"][g] for r in own[g:]])
        for g in range(len(own))
    ]  # fmt: skip
    title = f"{arm}, {protocol_title(protocol)}: classes of each step"
    return curves(title, "classes seen", "accuracy, %", drawn)


def summary_text(result: Row) -> str:
    """What the terminal says: the last step."""
    last = max(r["step"] for r in result["summary"])
    lines = [f"  after step {last + 1}:"]
    for r in result["summary"]:
        if r["step"] == last:
            lost = "" if r["forgetting"] is None else f"  forgetting {points(r['forgetting'])}"
            lines.append(f"  {r['arm']:10} {r['protocol']:10} "
                         f"{percent(r['accuracy'], r['std'])}  (n {r['n']}){lost}")  # fmt: skip
    return "\n".join(lines)
