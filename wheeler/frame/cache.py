"""A cache beside the decoder: what follows what in the text so far, and in a fixed text that stands before it.

The decoder knows stories. Of a licence or a program it knows little, but such texts repeat themselves and each other: a
cache language model (Kuhn and De Mori 1990) counts the tokens and the pairs of tokens that were said, after those of
primer.txt, and expects them again. Both models' probabilities are mixed; how much the decoder counts is learnt from
token to token, by Bayes' rule (Herbster and Warmuth 1998, "fixed share").

Whole numbers and float64 numbers in one order, so two machines agree on every bit. Letters: V tokens of the vocabulary.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numba import prange

from wheeler.dynamics.compiled import jit, parallel
from wheeler.frame.arithmetic import charge, read

# 126,000 characters of prose, 22 languages, documentation and code. A letter changed in it changes every frame.
PRIMER = Path(__file__).with_name("primer.txt")
SAID, PAIR = 200, 40                                                          # a token, a pair of the text itself
START = 0.95                                                                  # how much the decoder counts at first
KEPT = 0.95                                                                   # of what was learnt, at every token
SUM = 2.0**30                                                                 # of the mixed frequencies, about

# The tokens and pairs of the primer: counts (V,), one for a token that it lacks, and of the pairs that begin with token
# v, from starts[v] to starts[v + 1], the second token and how often. All int32.
Counts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def primer_ids(tokenizer) -> list[int]:
    """Token ids of the primer; none where the tokenizer is None."""
    if tokenizer is None:
        return []
    text = PRIMER.read_bytes().decode("utf-8")
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True).encodings[0].ids


@lru_cache(maxsize=4)
def counts_of(tokenizer, vocabulary: int) -> Counts:
    """The counts of the primer as a tokenizer cuts it."""
    ids = np.array(primer_ids(tokenizer), np.int64)
    pairs, times = np.unique(ids[:-1] * vocabulary + ids[1:], return_counts=True)
    single, starts = np.bincount(ids, minlength=vocabulary) + 1, np.arange(vocabulary + 1) * vocabulary
    return tuple(np.ascontiguousarray(numbers, np.int32) for numbers in (
        single, np.searchsorted(pairs, starts), pairs % vocabulary, times))


@jit
def expect(counts, seen, t, out):
    """out (V,) int64: how much each token is expected after the first t of seen (S,) int32; returns their sum."""
    single, starts, following, times = counts
    first, last, kinds, pairs, said = 0, 0, 1, 0, 0
    if t:
        first, last = starts[seen[t - 1]], starts[seen[t - 1] + 1]
    for s in range(t - 1):
        kinds += seen[s] == seen[t - 1]
    pairs += (kinds - 1) * PAIR
    kinds += last - first
    for i in range(first, last):
        pairs += times[i]
    # Tokens alone count as much as there are kinds of pairs (Witten and Bell 1991).
    for v in range(len(single)):
        out[v] = kinds * np.int64(single[v])
        said += single[v]
    said += SAID * t
    for s in range(t):
        out[seen[s]] += kinds * SAID
    for i in range(first, last):
        out[following[i]] += said * times[i]
    for s in range(t - 1):
        if seen[s] == seen[t - 1]:
            out[seen[s + 1]] += said * PAIR
    return said * (kinds + pairs)


@jit
def mix(weight, decoder, total, cache, cache_total, out):
    """out (V,) int32: frequencies of both, decoder (V,) int32 and cache (V,) int64, the decoder's with weight (0 to 1);
    returns their sum."""
    ours, others, both = weight * SUM / total, (1 - weight) * SUM / cache_total, 0
    for v in range(len(out)):
        out[v] = 1 + np.int32(decoder[v] * ours) + np.int32(cache[v] * others)
    for v in range(len(out)):
        both += out[v]
    return both


@jit
def learnt(weight, ours, others):
    """How much the decoder counts after a token that it gave the probability `ours`, the cache `others`."""
    ours, others = weight * ours, (1 - weight) * others
    return KEPT * (ours / (ours + others)) + (1 - KEPT) * START


@parallel
def charge_texts(tokens, slots, starts, positions, seen, weights, counts, frequencies, totals, out):
    """out (R, 3) int64: start, end and total of the mixed frequencies of tokens (R,). slots (n,): texts, starts
    (n + 1,): where their rows begin; positions (R,) in them; seen (B, S): their tokens; weights (B,) of the decoder,
    which learn; frequencies (R, V) int32 of the decoder and totals (R,) int64."""
    for k in prange(len(slots)):
        slot, size = slots[k], frequencies.shape[1]
        cached, both = np.empty(size, np.int64), np.empty(size, np.int32)
        for r in range(starts[k], starts[k + 1]):
            token, sum_cached = tokens[r], expect(counts, seen[slot], positions[r], cached)
            total = mix(weights[slot], frequencies[r], totals[r], cached, sum_cached, both)
            out[r, 0], out[r, 1] = charge(both, token)
            out[r, 2] = total
            weights[slot] = learnt(weights[slot], frequencies[r, token] / totals[r], cached[token] / sum_cached)


@parallel
def read_texts(coders, digits, slots, positions, seen, weights, counts, frequencies, totals, out):
    """out (R,) int64: the tokens that the numbers of texts `slots` say, a row each; -1 where a number says no more.
    coders (B, 3), digits (B, n): see arithmetic.py; the rest as in `charge_texts`."""
    for r in prange(len(slots)):
        slot, size = slots[r], frequencies.shape[1]
        cached, both = np.empty(size, np.int64), np.empty(size, np.int32)
        sum_cached = expect(counts, seen[slot], positions[r], cached)
        total = mix(weights[slot], frequencies[r], totals[r], cached, sum_cached, both)
        token = out[r] = read(coders[slot], digits[slot], both, total)
        if token >= 0:
            weights[slot] = learnt(weights[slot], frequencies[r, token] / totals[r], cached[token] / sum_cached)
