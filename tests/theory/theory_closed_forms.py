"""NumPy float64 closed forms of the quantities that the package differentiates automatically."""

import numpy as np
from scipy.special import gammaln


def gradient(w, x, y):
    """g(w_j) = (1/n) sum_i y_i 1[<w_j, x_i> > 0] x_i, rows."""
    w, x, y = (np.asarray(v, np.float64) for v in (w, x, y))
    return ((w @ x.T > 0) * y) @ x / len(x)


def one_step(start, w, g):
    """mean over w of 1[<w, x_m> > 0] g(w)."""
    start, w, g = (np.asarray(v, np.float64) for v in (start, w, g))
    return (start @ w.T > 0) @ g / len(w)


def matching_gradients(x, y, w, g):
    """Derivatives of (1/B) sum_w |G_w - g(w)|^2: y_m C_m and <C_m, x_m>, C = A'D 2/(M B)."""
    x, y, w, g = (np.asarray(v, np.float64) for v in (x, y, w, g))
    active = (w @ x.T > 0).astype(np.float64)
    difference = (active * y) @ x / len(x) - g
    c = active.T @ difference * 2 / (len(x) * len(w))
    return y[:, None] * c, np.sum(c * x, 1)


def population_one_step(u, h):
    """one_step of a start point in direction u at the population gradients of W uniform on the
    sphere: [(1 - 1/(d+1)) H u - (tr H - u'Hu) u / (2 (d+1))] / (2 pi E R)."""
    d = len(u)
    radius = np.sqrt(2) * np.exp(gammaln((d + 1) / 2) - gammaln(d / 2))
    hu = h @ u
    inside = (1 - 1 / (d + 1)) * hu - (np.trace(h) - u @ hu) * u / (2 * (d + 1))
    return inside / (2 * np.pi * radius)
