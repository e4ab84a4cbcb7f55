"""Attacks that guess from a network's outputs whether it was trained on an image.

Protocol of FRePo (Zhou et al. 2022, arXiv 2206.00719), attacks as in TensorFlow Privacy: features
are the logits and the loss; trained attacks are scored out of fold, their hyper-parameters chosen
inside the training folds; members and non-members are balanced. An attack is judged by the area
under its ROC curve: 0.5 says nothing leaks to this attack, which is no guarantee against others.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from distill_cli.core.types import Coreset
from distill_cli.errors import UserError

TRAINED = ("logistic", "mlp", "forest", "knn")


class Outputs(NamedTuple):
    """What a network says about members, then non-members: logits (n, class); labels (n,); member
    (n,), True where the image was in the training data."""

    logits: Float[np.ndarray, "n class"]
    labels: Int[np.ndarray, " n"]
    member: Bool[np.ndarray, " n"]


def require_optimised(final: Coreset, initial: Coreset) -> None:
    """UserError where the set to be attacked is the one that distillation started from.

    An attack on the starting images, which are members, would say nothing about distillation.
    """
    same = final.images.shape == initial.images.shape and np.array_equal(
        final.images, initial.images
    )
    if same and np.array_equal(final.labels, initial.labels):
        raise UserError(
            "steps: the coreset to attack is the one it started from; give more steps, or another "
            "method than random"
        )


def squared_errors(seen: Outputs) -> Float[np.ndarray, " n"]:
    """Per image the sum over classes of (logit - target)^2, targets one-hot minus 1/classes."""
    classes = seen.logits.shape[1]
    targets = np.eye(classes)[seen.labels] - 1 / classes
    return ((np.asarray(seen.logits, np.float64) - targets) ** 2).sum(1)


def probabilities(seen: Outputs) -> Float[np.ndarray, "n class"]:
    """softmax of the logits in float64."""
    shifted = np.asarray(seen.logits, np.float64)
    grown = np.exp(shifted - shifted.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def scores(attack: str, seen: Outputs, seed: int, folds: int, grid: str) -> np.ndarray:
    """(n,), larger where the attack believes in a member.

    loss: minus the squared error. entropy: minus -sum p log p. modified_entropy: minus
    -(1 - p_y) log p_y - sum_(c != y) p_c log(1 - p_c) (Song & Mittal 2021). confidence: p_y.
    correctness: 1 where the prediction is right. Others: a classifier on (logits, loss).
    """
    if attack == "loss":
        return -squared_errors(seen)
    if attack in TRAINED:
        return _out_of_fold(attack, seen, seed, folds, grid)
    p, rows = probabilities(seen), np.arange(len(seen.labels))
    true = p[rows, seen.labels]
    if attack == "confidence":
        return true
    if attack == "correctness":
        return (seen.logits.argmax(1) == seen.labels).astype(np.float64)
    tiny = 1e-30
    if attack == "entropy":
        return (p * np.log(np.maximum(p, tiny))).sum(1)
    others = p * np.log(np.maximum(1 - p, tiny))
    others[rows, seen.labels] = 0
    return (1 - true) * np.log(np.maximum(true, tiny)) + others.sum(1)


def auc(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: the chance that a member scores above a non-member, ties half."""
    from scipy.stats import rankdata

    inside = int(member.sum())
    outside = len(member) - inside
    total = rankdata(score)[member].sum() - inside * (inside + 1) / 2
    return float(total / (inside * outside))


def bootstrap(
    score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], resamples: int, level: float,
    seed: int,
) -> tuple[float, float]:  # fmt: skip
    """Percentile interval of the AUC, members and non-members drawn apart with replacement.

    Over images only: that another network was possible is not in it.
    """
    rng = np.random.default_rng(seed)
    inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
    found = np.empty(resamples)
    flags = np.repeat([True, False], [len(inside), len(outside)])
    for index in range(resamples):
        rows = [rng.choice(group, len(group)) for group in (inside, outside)]
        found[index] = auc(score[np.concatenate(rows)], flags)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _out_of_fold(attack: str, seen: Outputs, seed: int, folds: int, grid: str) -> np.ndarray:
    """Probability of membership for every image, from classifiers that did not train on it."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    features = np.column_stack([seen.logits, squared_errors(seen)]).astype(np.float64)
    model, choices = _model(attack, seed)
    if grid == "small":
        choices = {key: values[len(values) // 2 :][:1] for key, values in choices.items()}
    inner = StratifiedKFold(3, shuffle=True, random_state=seed)
    found = np.empty(len(features))
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(
        features, seen.member
    ):
        search = GridSearchCV(model, choices, scoring="roc_auc", cv=inner)
        if grid == "small":
            search = model.set_params(**{key: values[0] for key, values in choices.items()})
        search.fit(features[train], seen.member[train])
        found[test] = search.predict_proba(features[test])[:, 1]
    return found


def _model(attack: str, seed: int) -> tuple[Any, dict[str, list[Any]]]:
    """(classifier, its hyper-parameters) as in TensorFlow Privacy, features standardised."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if attack == "forest":
        forest = RandomForestClassifier(n_estimators=100, max_features="sqrt", random_state=seed)
        return forest, {
            "max_depth": [5, 20, 10, None],
            "min_samples_split": [2, 5, 10],
            "min_samples_leaf": [1, 2, 4],
        }
    if attack == "logistic":
        model, name = LogisticRegression(max_iter=2000), "logisticregression"
        choices: dict[str, list[Any]] = {"C": np.logspace(-4, 2, 10).tolist()}
    elif attack == "knn":
        model, name = KNeighborsClassifier(), "kneighborsclassifier"
        choices = {"n_neighbors": [3, 5, 7]}
    else:
        model = MLPClassifier(solver="adam", max_iter=500, early_stopping=True, random_state=seed)
        name = "mlpclassifier"
        choices = {"hidden_layer_sizes": [(32, 32), (64,)], "alpha": [1e-4, 1e-3, 1e-2]}
    keys = {f"{name}__{key}": values for key, values in choices.items()}
    return make_pipeline(StandardScaler(), model), keys
