"""Arithmetic coding in 64-bit words, and frequencies that two machines agree on.

An interval of the numbers below 2^bits is narrowed by one choice after another. It is kept as low and size = r * 2^k,
2^48 <= r < 2^64, where k falls by a digit of 16 bits whenever r becomes too small: a range coder (Martin 1979) with
carries. The low end is an array of such digits, the highest first. All is whole numbers, so writer and reader narrow to
the very same interval.
"""

import decimal
import math
from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np

from wheeler.dynamics.kernels import jit

RESOLUTION_BITS = 24                                                          # of a probability
LOGIT_STEP = 64                                                               # logits are rounded to 1/64
DIGIT, LEAST_BITS = 16, 48                                                    # bits of a digit; of the least r
LEAST = np.uint64(1 << LEAST_BITS)
u64, i64 = numba.uint64, numba.int64


@dataclass(frozen=True)
class Interval:
    """The numbers from low to low + size - 1, of all below 2^bits; size 0: more was written than `bits` can hold."""

    bits: int
    low: int
    size: int

    def __contains__(self, number: int) -> bool:
        return self.low <= number < self.low + self.size

    def holds(self, other: "Interval") -> bool:
        """Whether all of the other interval lies in this one."""
        return self.low <= other.low and other.low + other.size <= self.low + self.size

    def spent(self) -> float:
        """Bits written so far."""
        return self.bits - math.log2(self.size) if self.size else math.inf


def digits_of(number: int, bits: int) -> np.ndarray:
    """A number below 2^bits as uint64 digits of 16 bits, the highest first."""
    return np.frombuffer(number.to_bytes(bits // 8, "big"), dtype=">u2").astype(np.uint64)


# A coder is uint64 (3,): r, by how many digits it has moved on, and, where it reads a number, that number less the low
# end, cut to the digits that r has. Kernels get it with the digits of that number, or, where it writes, of the low end.


def new_coder(digits: np.ndarray) -> np.ndarray:
    """A coder that has narrowed nothing."""
    first = int(digits[0]) << 2 * DIGIT | int(digits[1]) << DIGIT | int(digits[2])
    return np.array([LEAST, 0, first], dtype=np.uint64)


@jit
def narrow(coder, digits, start, end, total, reads):
    """Keep the share [start, end) of total; the last share has what rounding left over. A coder that writes raises its
    low end. False: the interval is too small to be narrowed further."""
    unit = coder[0] // u64(total)
    begin = unit * u64(start)
    coder[0] = coder[0] - begin if end == total else unit * u64(end - start)
    place, carry = i64(coder[1]) + 2, u64(0) if reads else begin
    while carry and place >= 0:
        carry += digits[place]
        digits[place] = carry & u64((1 << DIGIT) - 1)
        carry >>= u64(DIGIT)
        place -= 1
    if reads:
        coder[2] -= begin
    while coder[0] < LEAST and i64(coder[1]) + 3 < len(digits):
        coder[0] <<= u64(DIGIT)
        coder[1] += u64(1)
        coder[2] = coder[2] << u64(DIGIT) | digits[i64(coder[1]) + 2]
    return coder[0] >= LEAST


@jit
def looked_up(coder, total):
    """Where in [0, total) the number lies that the coder reads."""
    return min(i64(coder[2] // (coder[0] // u64(total))), total - 1)


@jit
def _write_all(coder, low, charges):
    for t in range(len(charges)):
        if not narrow(coder, low, charges[t, 0], charges[t, 1], charges[t, 2], False):
            break


@jit
def _agree(coder, digits, charges):
    for t in range(len(charges)):
        start, end, total = charges[t]
        if not start <= looked_up(coder, total) < end:
            return t
        if not narrow(coder, digits, start, end, total, True):
            return t + 1
    return len(charges)


def spent(coder: np.ndarray) -> float:
    """Bits that a coder has narrowed by."""
    return LEAST_BITS + DIGIT * int(coder[1]) - math.log2(max(1, int(coder[0])))


def interval_of(coder: np.ndarray, low: np.ndarray) -> Interval:
    """What a coder that writes has narrowed to."""
    bits, (r, moved, _) = DIGIT * len(low), coder.tolist()
    k = bits - LEAST_BITS - DIGIT * moved
    return Interval(bits, int.from_bytes(low.astype(">u2").tobytes(), "big"), r << k if r >= LEAST else 0)


def encode(charges: np.ndarray, bits: int) -> Interval:
    """The interval that choices leave. charges (T, 3) int64: start, end and total of the share of each."""
    low = np.zeros(bits // DIGIT, np.uint64)
    coder = new_coder(low)
    _write_all(coder, low, charges)
    return interval_of(coder, low)


def agreement(number: int, charges: np.ndarray, bits: int) -> int:
    """How many of the choices, from the first on, the number says."""
    digits = digits_of(number, bits)
    return int(_agree(new_coder(digits), digits, charges))


def shortest_bytes(interval: Interval) -> bytes:
    """The shortest byte string all of whose continuations, as numbers, lie in the interval."""
    # The shortest one wins: every byte that is saved is a tile of redundancy.
    for length in range(1, interval.bits // 8):
        unit = 1 << interval.bits - 8 * length
        start = -(-interval.low // unit)
        if (start + 1) * unit <= interval.low + interval.size:
            return start.to_bytes(length, "big")
    return bytes(interval.bits // 8)                                          # too long for any frame


# ---- frequencies ----


@lru_cache(maxsize=1)
def frequency_table() -> np.ndarray:
    """floor(2^24 exp(-d / 64)), at least 1, for d = 0, 1, ...; exact, where math.exp may differ in its last bit."""
    with decimal.localcontext() as context:
        context.prec = 40
        top = decimal.Decimal(1 << RESOLUTION_BITS)
        values = [int(top * (decimal.Decimal(-d) / LOGIT_STEP).exp()) for d in range(math.ceil(17 * LOGIT_STEP))]
    return np.maximum(np.array(values, dtype=np.int64), 1)


# Logits differ in their last bits between machines. Rounded to 1/64 they agree, unless one lies on a border within that
# difference, which float64 makes rare. Distances from the largest: a constant added to all of them changes nothing.


@jit
def _frequency(table, top, logit):
    return table[min(i64(np.rint((top - logit) * LOGIT_STEP)), len(table) - 1)]


@jit
def _charges(logits, ids, table, out):
    for t in range(len(ids)):
        top, total, start = logits[t].max(), 0, 0
        for token in range(logits.shape[1]):
            start = total if token == ids[t] else start
            total += _frequency(table, top, logits[t, token])
        out[t, 0], out[t, 1], out[t, 2] = start, start + _frequency(table, top, logits[t, ids[t]]), total


@jit
def _next(coders, digits, logits, table, out):
    for row in range(len(logits)):
        top, total = logits[row].max(), 0
        for token in range(logits.shape[1]):
            total += _frequency(table, top, logits[row, token])
        wanted, start, token = looked_up(coders[row], total), 0, 0
        while True:
            end = start + _frequency(table, top, logits[row, token])
            if wanted < end:
                break
            start, token = end, token + 1
        out[row] = token if narrow(coders[row], digits[row], start, end, total, True) else -1


def charges_of(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Logits (T, V) float64 and tokens (T,) int64 -> (T, 3) int64: start, end and total of each token's frequencies, of
    which every token has 1 at least."""
    out = np.empty((len(ids), 3), np.int64)
    _charges(logits, ids, frequency_table(), out)
    return out


class Readers:
    """Numbers below 2^bits that are read as tokens, one a step."""

    def __init__(self, numbers: list[int], bits: int):
        self.digits = np.stack([digits_of(number, bits) for number in numbers])
        self.coders = np.stack([new_coder(row) for row in self.digits])

    def next(self, rows: list[int], logits: np.ndarray) -> list[int]:
        """The tokens that numbers `rows` say under logits (len(rows), V) float64; -1 where a number says no more."""
        coders, digits, out = self.coders[rows], self.digits[rows], np.empty(len(rows), np.int64)
        _next(coders, digits, logits, frequency_table(), out)
        self.coders[rows] = coders
        return out.tolist()

    def equal(self, row: int, total: int) -> int:
        """The choice that number `row` says of `total` equally likely ones."""
        choice = int(looked_up(self.coders[row], total))
        narrow(self.coders[row], self.digits[row], choice, choice + 1, total, True)
        return choice

    def spent(self, row: int) -> float:
        return spent(self.coders[row])
