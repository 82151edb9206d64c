"""Functions with the same bits on every machine: made of + - * / and powers of two alone, which IEEE 754 defines to the
last bit. Those of libm and of vector libraries differ there from machine to machine."""

import math

import numpy as np

from wheeler.dynamics.compiled import jit

# ln 2 and pi as sums of a number of 33 bits, of which small multiples are exact, and the rest.
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
PI_HIGH, PI_LOW = 3.14159265346825122834e00, 1.21542010130123844986e-10


@jit
def exp(x):
    """e^x of a float64, with an error of 4e-16 of it; 0 below -708, inf above 709."""
    if x < -708.0:
        return 0.0
    if x > 709.0:
        return np.inf
    k = math.floor(x / (LN2_HIGH + LN2_LOW) + 0.5)
    r = x - k * LN2_HIGH - k * LN2_LOW                                        # |r| <= 0.35
    total = 1.0
    for n in range(18, 0, -1):                                                # Horner's scheme of the series
        total = 1.0 + total * r / n
    return math.ldexp(total, int(k))


@jit
def sigmoid(x):
    """1 / (1 + e^-x)"""
    return 1.0 / (1.0 + exp(-x)) if x >= 0 else exp(x) / (1.0 + exp(x))


@jit
def softplus(x):
    """log(1 + e^x), with an error of 1e-15."""
    # log(1 + y) = 2 artanh(y / (2 + y)) for 0 < y = e^-|x| <= 1: a series in the square of at most 1/3
    y = exp(-abs(x))
    z = y / (2.0 + y)
    total, power = 0.0, z
    for n in range(1, 36, 2):
        total += power / n
        power *= z * z
    return max(x, 0.0) + 2.0 * total


@jit
def normal(x):
    """Probability that a normal variable is below x: its distribution function, with an error of 1e-13."""
    if abs(x) > 8.5:
        return 0.0 if x < 0 else 1.0
    # Marsaglia 2004: 1/2 + density * (x + x^3/3 + x^5/(3 5) + x^7/(3 5 7) + ...)
    total, term, n = 0.0, x, 1
    while total + term != total:
        total += term
        n += 2
        term *= x * x / n
    return 0.5 + total * exp(-x * x / 2.0) * 0.3989422804014327


@jit
def cosine_and_sine(x):
    """(cos x, sin x) of 0 <= x < 1e5, with an error of 1e-13."""
    k = math.floor(x / (PI_HIGH + PI_LOW) + 0.5)
    r = x - k * PI_HIGH - k * PI_LOW                                          # |r| <= 1.58
    cosine, sine = 1.0, 1.0
    for n in range(24, 0, -2):                                                # of the two series
        cosine = 1.0 - cosine * r * r / (n * (n - 1))
        sine = 1.0 - sine * r * r / (n * (n + 1))
    sign = -1.0 if k % 2 else 1.0
    return sign * cosine, sign * sine * r


def of_all(function, x: np.ndarray) -> np.ndarray:
    """function, one of those above, of every number of an array; float64."""
    return np.array([function(value) for value in x.ravel().tolist()]).reshape(x.shape)
