"""Arithmetic coding: intervals of whole numbers of thousands of bits, and frequencies that two machines agree on.

Witten, Neal, Cleary 1987; here with whole integers instead of a sliding window.
"""

import copy
import decimal
import math
from functools import lru_cache

import numpy as np

RESOLUTION_BITS = 24                                                          # of a probability
LOGIT_STEP = 64                                                               # logits are rounded to 1/64


class Interval:
    """An interval [low, low + size) of [0, 2^bits), narrowed by one choice after another."""

    def __init__(self, bits: int):
        self.bits, self.low, self.size = bits, 0, 1 << bits

    def narrow(self, start: int, end: int, total: int) -> None:
        """Keep the share [start, end) of total. The size may become 0: more was written than `bits` can hold."""
        # Whole numbers: no rounding, so writer and reader narrow to the very same interval.
        first = self.size * start // total
        self.low, self.size = self.low + first, self.size * end // total - first

    def narrowed(self, start: int, end: int, total: int) -> "Interval":
        """A new interval, this one's share [start, end) of total."""
        part = copy.copy(self)
        part.narrow(start, end, total)
        return part

    def __contains__(self, number: int) -> bool:
        return self.low <= number < self.low + self.size

    def spent(self) -> float:
        """Bits written so far."""
        return self.bits - math.log2(self.size) if self.size else math.inf


@lru_cache(maxsize=1)
def frequency_table() -> np.ndarray:
    """floor(2^24 exp(-d / 64)), at least 1, for d = 0, 1, ...; exact, where math.exp may differ in its last bit."""
    with decimal.localcontext() as context:
        context.prec = 40
        top = decimal.Decimal(1 << RESOLUTION_BITS)
        values = [int(top * (decimal.Decimal(-d) / LOGIT_STEP).exp()) for d in range(math.ceil(17 * LOGIT_STEP))]
    return np.maximum(np.array(values, dtype=np.int64), 1)


def cumulative(logits: np.ndarray) -> np.ndarray:
    """(..., V) float64 logits -> (..., V + 1) int64 cumulative frequencies, every token at least 1."""
    # Logits differ in their last bits between machines. Rounded to 1/64 they agree, unless one lies on a border within
    # that difference, which float64 makes rare.
    table = frequency_table()
    # Distances from the largest logit: a constant added to all of them changes nothing.
    distance = np.rint((logits.max(-1, keepdims=True) - logits) * LOGIT_STEP)
    frequency = table[np.minimum(distance, len(table) - 1).astype(np.int64)]
    return np.concatenate([np.zeros_like(frequency[..., :1]), frequency.cumsum(-1)], -1)


def shortest_bytes(interval: Interval) -> bytes:
    """The shortest byte string all of whose continuations, as numbers, lie in the interval."""
    # The shortest one wins: every byte that is saved is a tile of redundancy.
    for length in range(1, interval.bits // 8):
        unit = 1 << interval.bits - 8 * length
        start = -(-interval.low // unit)
        if (start + 1) * unit <= interval.low + interval.size:
            return start.to_bytes(length, "big")
    return bytes(interval.bits // 8)                                          # too long for any frame
