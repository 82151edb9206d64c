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

from wheeler.dynamics.compiled import jit

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


def shortest(interval: Interval, width: int) -> list[int]:
    """The fewest symbols of `width` bits all of whose continuations, as numbers, lie in the interval."""
    # The fewest win: every symbol that is saved is a tile of redundancy.
    for length in range(1, interval.bits // width):
        unit = 1 << interval.bits - width * length
        start = -(-interval.low // unit)
        if (start + 1) * unit <= interval.low + interval.size:
            return [start >> width * k & (1 << width) - 1 for k in reversed(range(length))]
    return [0] * (interval.bits // width)                                     # too long for any frame


def middle(symbols: list[int], width: int, bits: int) -> tuple[int, int]:
    """(number, unit): the middle one of the numbers of so many bits that begin with symbols of `width` bits, and how
    many there are."""
    unit, start = 1 << bits - width * len(symbols), 0
    for symbol in symbols:
        start = start << width | symbol
    return start * unit + unit // 2, unit


# ---- frequencies ----


@lru_cache(maxsize=1)
def frequency_table() -> np.ndarray:
    """floor(2^24 exp(-d / 64)), at least 1, for d = 0, 1, ...; exact, where math.exp may differ in its last bit."""
    with decimal.localcontext() as context:
        context.prec = 40
        top = decimal.Decimal(1 << RESOLUTION_BITS)
        values = [int(top * (decimal.Decimal(-d) / LOGIT_STEP).exp()) for d in range(math.ceil(17 * LOGIT_STEP))]
    return np.maximum(np.array(values, dtype=np.int32), 1)


# Distances from the largest logit: a constant added to all of them changes nothing.


@jit
def frequencies(logits, table, out):
    """out (V,) int32: the frequency of every token under float32 logits (V,); returns their sum. table: those of
    `frequency_table`."""
    lanes, whole, last = np.full(16, -np.inf, np.float32), len(logits) // 16 * 16, np.int32(len(table) - 1)
    for start in range(0, whole, 16):                                         # a vector register at a time
        for i in range(16):
            lanes[i] = max(lanes[i], logits[start + i])
    top, total = lanes.max(), 0
    for v in range(whole, len(logits)):
        top = max(top, logits[v])
    for v in range(len(logits)):
        out[v] = np.int32(np.rint(min((top - logits[v]) * np.float32(LOGIT_STEP), np.float32(last))))
    for v in range(len(logits)):                                              # a loop of its own: it is a gather
        out[v] = table[out[v]]
        total += out[v]
    return total


@jit
def charge(frequencies, token):
    """(start, end) of a token's share of frequencies (V,)."""
    start = 0
    for v in range(token):
        start += frequencies[v]
    return start, start + frequencies[token]


@jit
def read(coder, digits, frequencies, total):
    """The next token that the coder's number says under frequencies (V,), total their sum; -1 where it says no more."""
    wanted, start, token = looked_up(coder, total), 0, 0
    while start + frequencies[token] <= wanted:
        start, token = start + frequencies[token], token + 1
    return token if narrow(coder, digits, start, start + frequencies[token], total, True) else -1


def read_choice(coder: np.ndarray, digits: np.ndarray, total: int) -> int:
    """The next choice that the coder's number says, of `total` equally likely ones."""
    choice = int(looked_up(coder, total))
    narrow(coder, digits, choice, choice + 1, total, True)
    return choice
