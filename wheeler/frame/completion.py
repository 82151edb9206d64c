"""Symbols of a Reed-Solomon code over GF(2^13), more of them erased than its redundancy bears.

A tile that is partly erased leaves some symbols possible. Where m symbols too many are erased, each way to choose m of
such tiles' symbols gives a whole code word; the right one agrees with what is left of all other tiles. The code is
linear, so the word of each way is a sum (exclusive or) of one word a choice: 2^24 ways take a tenth of a second.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from wheeler.dynamics.compiled import jit

SYMBOL_BITS = 13                                                              # of a tile against erasures
FIELD = 0x201B                                                                # x^13 + x^4 + x^3 + x + 1, primitive
ORDER = (1 << SYMBOL_BITS) - 1
MOST_FOUND = 64                                                               # words that agree: more say nothing


@lru_cache(maxsize=1)
def _powers() -> tuple[np.ndarray, np.ndarray]:
    """(2 * ORDER,): powers of the generator 2; (ORDER + 1,): the logarithm of every symbol but 0."""
    powers, logs, x = np.zeros(2 * ORDER, np.int64), np.zeros(ORDER + 1, np.int64), 1
    for n in range(ORDER):
        powers[n] = powers[n + ORDER] = x
        logs[x] = n
        x = x << 1 ^ (FIELD if x >> SYMBOL_BITS - 1 else 0)
    return powers, logs


def times(a, b) -> np.ndarray:
    """Products in GF(2^13), elementwise."""
    powers, logs = _powers()
    return np.where((np.asarray(a) != 0) & (np.asarray(b) != 0), powers[logs[a] + logs[b]], 0)


def unknown_from_known(count: int, known: Sequence[int]) -> np.ndarray:
    """(count - K, K): the matrix that gives the other symbols of a code word of `count` symbols, in order, from K known
    ones at these places, in any order. The code has K symbols of data; its words are 0 at the generator's powers
    0 .. count - K - 1."""
    powers, logs = _powers()
    others = np.setdiff1d(np.arange(count), known)
    place = count - 1 - np.concatenate([others, known])
    rows = powers[np.arange(len(others))[:, None] * place % ORDER]
    for k in range(len(others)):                                              # Gauss-Jordan elimination
        pivot = k + int(np.flatnonzero(rows[k:, k])[0])
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k] = times(rows[k], powers[ORDER - logs[rows[k, k]]])
        factors = rows[:, k].copy()
        factors[k] = 0
        rows ^= times(factors[:, None], rows[k])
    return rows[:, len(others):]


def sum_of(matrix: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """The product (N,) in GF(2^13) of a matrix (N, K) with symbols (K,)."""
    return np.bitwise_xor.reduce(times(matrix, symbols), axis=1)


@jit
def _search(base, sizes, tables, allowed, found):
    """Numbers of ways, (n, m) in found (MOST_FOUND, m), for which all of J symbols are allowed; returns n, at most
    MOST_FOUND.

    base (J,): the symbols with no choice; tables (m, J, C): what each choice adds; sizes (m,): how many choices there
    are of each; allowed (J, 2^13) bool. The last one changes fastest."""
    m, checks = tables.shape[0], len(base)
    choice, sums, count = np.zeros(m, np.int64), np.zeros((m + 1, checks), np.int64), 0
    sums[0] = base
    depth = 0
    while depth >= 0:
        if depth < m - 1:
            if choice[depth] == sizes[depth]:
                choice[depth] = 0
                depth -= 1
                if depth >= 0:
                    choice[depth] += 1
                continue
            for j in range(checks):
                sums[depth + 1, j] = sums[depth, j] ^ tables[depth, j, choice[depth]]
            depth += 1
            continue
        for c in range(sizes[depth]):
            agrees = True
            for j in range(checks):
                if not allowed[j, sums[depth, j] ^ tables[depth, j, c]]:
                    agrees = False
                    break
            if agrees:
                if count == MOST_FOUND:
                    return count
                found[count] = choice
                found[count, depth] = c
                count += 1
        depth -= 1
        if depth >= 0:
            choice[depth] += 1
    return count


def completed(told: Sequence[int], possible: np.ndarray, length: int, most: int) -> list[list[int]]:
    """The code words that agree with tiles, where fewer than `length` symbols, the data, are known; none where more
    than `most` ways were to be tried, or MOST_FOUND agree.

    told (n,): the symbol of each tile, -1 where it is not known; possible (n, 2^13) bool: which it may be, any of them
    where all of a tile is lost."""
    told, counts = np.array(told), possible.sum(1)
    known, left = np.flatnonzero(told >= 0), np.flatnonzero((told < 0) & (counts > 0) & (counts <= ORDER))
    left = left[np.argsort(counts[left], kind="stable")]
    chosen, checks = np.split(left, [length - len(known)])
    ways = np.prod(counts[chosen].astype(float))
    if len(chosen) < length - len(known) or ways > (most if len(checks) else MOST_FOUND - 1):
        return []
    places = np.concatenate([known, chosen])
    matrix, others = unknown_from_known(len(told), places), np.setdiff1d(np.arange(len(told)), places)
    of_checks = matrix[np.searchsorted(others, checks)]                       # (J, length)
    choices = [np.flatnonzero(possible[place]) for place in chosen]
    tables = np.zeros((len(chosen), len(checks), max(map(len, choices))), np.int64)
    for k, of_tile in enumerate(choices):
        tables[k, :, : len(of_tile)] = times(of_checks[:, len(known) + k, None], of_tile)
    found = np.zeros((MOST_FOUND, len(chosen)), np.int64)
    count = _search(sum_of(of_checks[:, : len(known)], told[known]), np.array(list(map(len, choices))), tables,
                    possible[checks], found)
    words = []
    for way in found[:count] if count < MOST_FOUND else ():
        word = told.copy()
        word[chosen] = [of_tile[c] for of_tile, c in zip(choices, way, strict=True)]
        word[others] = sum_of(matrix, word[places])
        words.append(word.tolist())
    return words
