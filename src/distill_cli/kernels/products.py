"""Products of kernel matrices on tensor cores, as accurate as float32.

A float32 number is the sum of three bfloat16 numbers (8 + 8 + 8 bits). Of the nine products of the
parts of two numbers, six are above the rounding of float32; XLA multiplies them on tensor cores and
adds them up in float32 (BF16_BF16_F32_X6, Henry, Tang and Heinecke 2019, arXiv 1904.06376). On an
H100 that is about twice as fast as float32 arithmetic, which has no tensor cores.

Where nothing is gained, or the device does not do it, products stay in float32.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

log = logging.getLogger(__name__)
# Compute capabilities whose tensor cores do six bfloat16 products in less time than one of
# float32: A100 (312 against 20 TFLOP/s), H100 and H200, B200 and B300. On cards for workstations,
# 8.6, 8.9 and 12.0, float32 is the faster one.
FASTER = {"8.0", "9.0", "10.0", "10.3"}
SPLIT = lax.DotAlgorithmPreset.BF16_BF16_F32_X6
TRIAL = (64, 1024, 64)
# Largest |error| / (|a| |b|) of the trial's standard normal numbers: 1e-7 in float32 and of split
# products, 2e-5 in TF32, which a compiler may take for what it does not know.
CLOSE = 2e-6

Precision = str | lax.DotAlgorithmPreset


@functools.cache
def split_works() -> bool:
    """Whether this process computes on a GPU on which split products are the faster ones, and a
    trial of them gives what float64 gives, to the rounding of float32."""
    device = jax.local_devices()[0]
    capability = getattr(device, "compute_capability", None)
    if jax.default_backend() != "gpu" or capability not in FASTER:
        return False
    random = np.random.default_rng(0)
    n, k, m = TRIAL
    a, b = (random.standard_normal(shape, np.float32) for shape in ((n, k), (k, m)))
    try:
        with jax.ensure_compile_time_eval():  # a caller may be in the middle of a trace
            product = jax.jit(functools.partial(jnp.matmul, precision=SPLIT))(a, b)
        error = abs(np.asarray(product, np.float64) - a.astype(np.float64) @ b.astype(np.float64))
    except Exception as problem:  # whatever XLA says about this card
        log.warning("kernel matrices in float32, %s", " ".join(str(problem).split())[:200])
        return False
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0)
    close = bool((error / lengths).max() < CLOSE)
    if not close:
        log.warning("kernel matrices in float32: split products miss its accuracy here")
    return close


def arithmetic_of(features: str) -> str:
    """In what kernel matrices of float32 features are multiplied: bfloat16x6 or float32; features:
    the networks' arithmetic. Who asks for float32 networks gets float32 everywhere."""
    return "bfloat16x6" if features != "float32" and split_works() else "float32"


def precision_of(features: str, dtype: jnp.dtype) -> Precision:
    """What jnp.matmul takes as `precision` for operands of this dtype; float64 stays float64."""
    single = dtype == jnp.float32
    return SPLIT if single and arithmetic_of(features) == "bfloat16x6" else "highest"
