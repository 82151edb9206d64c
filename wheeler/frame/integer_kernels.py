"""What the decoder in whole numbers computes between its matrix products, compiled with numba.

All float32 sums have one order, so that every machine, thread count and batch gives the same bits. Rows are tokens of
several texts in a row, without padding. What stands for a vector is its levels (int8) and a scale (float32): their
product is the vector. Sums of products of levels (int32) come from outside.

Letters: R rows, D d_model, Dm meaning_dim, nh heads, hd = D // nh, S positions at most, V vocabulary, n texts, B slots
for texts. Kernels do not check what they are given.
"""

import numpy as np
from numba import prange

from wheeler.dynamics.compiled import jit, parallel
from wheeler.dynamics.kernels import MASK
from wheeler.frame.arithmetic import frequencies
from wheeler.frame.plain_math import sigmoid

LEVELS = np.float32(127)                                                      # of an int8: -127 .. 127
LANES = 16                                                                    # partial sums, of a vector register each
STEPS = 256                                                                   # entries a unit of all tables
NORMAL_FROM, SOFTPLUS_FROM = 8, 16                                            # tables reach from -this to +this

# ---- rows of levels ----


@jit
def _largest(x):
    """Greatest |x| of float32 (n,)."""
    bits, top = x.view(np.int32), np.int32(0)                                 # as whole numbers: LLVM vectorises that
    for i in range(len(x)):
        top = max(top, bits[i] & np.int32(0x7FFFFFFF))
    return np.array([top], np.int32).view(np.float32)[0]


@jit
def quantise(x, levels):
    """float32 (n,) -> its int8 levels; returns their scale. What is below 1e-30 is 0."""
    top = _largest(x)
    if top < np.float32(1e-30):                                               # denormal numbers differ: some flush them
        levels[:] = 0
        return np.float32(0)
    inverse = LEVELS / top
    for i in range(len(x)):
        levels[i] = np.int8(np.int32(np.rint(x[i] * inverse)))
    return top / LEVELS


@parallel
def quantise_rows(x, levels, scales):
    for r in prange(len(x)):
        scales[r] = quantise(x[r], levels[r])


@jit
def _sum(x):
    """Sum of float32 (n,)."""
    lanes, whole, total = np.zeros(LANES, np.float32), len(x) // LANES * LANES, np.float32(0)
    for start in range(0, whole, LANES):
        for i in range(LANES):
            lanes[i] += x[start + i]
    for i in range(LANES):
        total += lanes[i]
    for i in range(whole, len(x)):
        total += x[i]
    return total


@jit
def _normed(x, weight, out):
    """LayerNorm without a bias."""
    n = np.float32(len(x))
    mean = _sum(x) / n
    for i in range(len(x)):
        out[i] = (x[i] - mean) * (x[i] - mean)
    inverse = np.float32(1) / np.float32(np.sqrt(_sum(out) / n + np.float32(1e-5)))
    for i in range(len(x)):
        out[i] = (x[i] - mean) * inverse * weight[i]


@parallel
def add_and_norm(x, sums, scales, weight_scales, norm, out, levels, out_scales):
    """x (R, D) += what the products say; `out` (R, D), levels and out_scales: its norm."""
    for r in prange(len(x)):
        if sums.shape[1]:
            for i in range(x.shape[1]):
                x[r, i] += np.float32(sums[r, i]) * (scales[r] * weight_scales[i])
        _normed(x[r], norm, out[r])
        out_scales[r] = quantise(out[r], levels[r])


@parallel
def gelu(sums, scales, weight_scales, table, levels, out_scales):
    """x * Phi(x) of the products, as levels. table: `normal` from -8 to 8."""
    width, last = sums.shape[1], np.int32(len(table) - 1)
    for r in prange(len(sums)):
        x, place = np.empty(width, np.float32), np.empty(width, np.int32)
        for i in range(width):
            x[i] = np.float32(sums[r, i]) * (scales[r] * weight_scales[i])
            at = np.rint(min(max(x[i], np.float32(-NORMAL_FROM)), np.float32(NORMAL_FROM)) * np.float32(STEPS))
            place[i] = min(np.int32(at) + np.int32(NORMAL_FROM * STEPS), last)
        for i in range(width):                                                # a loop of its own: it is a gather
            x[i] *= table[place[i]]
        out_scales[r] = quantise(x, levels[r])


# ---- attention ----


@jit
def _turned(sums, scale, weight_scales, cosines, sines, out):
    """A head's part of the products, turned by the rotary positions of one token. All (hd,)."""
    half = len(out) // 2
    for i in range(half):
        a = np.float32(sums[i]) * (scale * weight_scales[i])
        b = np.float32(sums[i + half]) * (scale * weight_scales[i + half])
        out[i] = a * cosines[i] - b * sines[i]
        out[i + half] = b * cosines[i] + a * sines[i]


@jit
def _weighted(weights, levels, rows, columns, out):
    """out (columns,): sum of the first `rows` rows of levels (n, m) int8 by their weights (n,), one after the other."""
    eights = rows // 8 * 8
    for i in range(columns):
        out[i] = 0
    for r in range(0, eights, 8):                                             # eight at a time: fewer loads of `out`
        w0, w1, w2, w3 = weights[r], weights[r + 1], weights[r + 2], weights[r + 3]
        w4, w5, w6, w7 = weights[r + 4], weights[r + 5], weights[r + 6], weights[r + 7]
        for i in range(columns):
            total = out[i] + w0 * np.float32(levels[r, i])
            total += w1 * np.float32(levels[r + 1, i])
            total += w2 * np.float32(levels[r + 2, i])
            total += w3 * np.float32(levels[r + 3, i])
            total += w4 * np.float32(levels[r + 4, i])
            total += w5 * np.float32(levels[r + 5, i])
            total += w6 * np.float32(levels[r + 6, i])
            out[i] = total + w7 * np.float32(levels[r + 7, i])
    for r in range(eights, rows):
        for i in range(columns):
            out[i] += weights[r] * np.float32(levels[r, i])


@parallel
def attend(sums, scales, weight_scales, rope, slots, starts, before, keys, values, stored, table, out):
    """Causal self-attention; stores the keys and values of the rows.

    sums (R, 3 D): products for queries, keys, values; rope (2, S, hd): cosines and sines; slots (n,) of the texts,
    starts (n + 1,): where their rows begin; before (n,): positions that are stored already; keys (B, nh, hd, S) and
    values (B, nh, S, hd): levels, stored (2, B, nh, S): their scales; table: 2^20 e^-x; out (R, D).
    """
    heads, width, last = keys.shape[1], keys.shape[2], np.int32(len(table) - 1)
    d = heads * width
    root = np.float32(1 / np.sqrt(width))
    for task in prange(len(slots) * heads):
        k, h = task // heads, task % heads
        slot, low, t = slots[k], h * width, before[k]
        part, level = np.empty(width, np.float32), np.empty(width, np.int8)
        score, place = np.zeros(keys.shape[3], np.float32), np.zeros(keys.shape[3], np.int32)
        for r in range(starts[k], starts[k + 1]):
            cosines, sines = rope[0, t], rope[1, t]
            _turned(sums[r, d + low : d + low + width], scales[r], weight_scales[d + low : d + low + width], cosines,
                    sines, part)
            stored[0, slot, h, t] = quantise(part, level)
            for i in range(width):
                keys[slot, h, i, t] = level[i]
            for i in range(width):
                at = 2 * d + low + i
                part[i] = np.float32(sums[r, at]) * (scales[r] * weight_scales[at])
            stored[1, slot, h, t] = quantise(part, values[slot, h, t])
            _turned(sums[r, low : low + width], scales[r], weight_scales[low : low + width], cosines, sines, part)
            seen = (t + 1) & MASK
            _weighted(part, keys[slot, h], width, seen, score)
            top = np.float32(-np.inf)
            for s in range(seen):
                score[s] *= stored[0, slot, h, s] * root
                top = max(top, score[s])
            for s in range(seen):
                place[s] = np.int32(min((top - score[s]) * np.float32(STEPS) + np.float32(0.5), np.float32(last)))
            total = 0
            for s in range(seen):
                weight = table[place[s]]
                total += weight
                score[s] = np.float32(weight) * stored[1, slot, h, s]
            _weighted(score, values[slot, h], seen, width, part)
            for i in range(width):
                out[r, low + i] = part[i] / np.float32(total)
            t += 1


# ---- what the tiles tell ----


@jit
def add_up(words, mean, basis, projections, out):
    """out (Dm,) float64 += the codes of tile words (M, 64), their mean (64,) taken off, in the basis (64, CODE), times
    their projections (M, CODE, Dm)."""
    code = np.empty(basis.shape[1])
    for k in range(len(words)):
        code[:] = 0
        for cell in range(len(mean)):
            for c in range(len(code)):
                code[c] += (words[k, cell] - mean[cell]) * basis[cell, c]
        for c in range(len(code)):
            for i in range(len(out)):
                out[i] += code[c] * projections[k, c, i]


@parallel
def say(tokens, vectors, weight, silent, slots, starts, before, seen, said, levels, scales):
    """The sum of what stands before each row, as levels (R, Dm) and scales; keeps it in said (B, Dm).

    tokens (R,): what each row reads, the token before it (at position 0 there is none); vectors (V, Dm); weight (V,):
    how much a token says, the second time half, a third time a third; silent: a token that says nothing; seen (B, S):
    the tokens of each text.
    """
    for k in prange(len(slots)):
        slot, t = slots[k], before[k]
        total = said[slot]
        for r in range(starts[k], starts[k + 1]):
            if t:
                token, times = tokens[r], 1
                for s in range(t - 1):
                    times += seen[slot, s] == token
                seen[slot, t - 1] = token
                share = np.float32(0) if token == silent else weight[token] / np.float32(times)
                for i in range(len(total)):
                    total[i] += vectors[token, i] * share
            scales[r] = quantise(total, levels[r])
            t += 1


@parallel
def embed(tokens, table, slots, told, sums, scales, weight_scales, constant, out):
    """out (R, D): vectors of tokens and, in texts that are told (B,), what is injected: the products of what was said
    and, of the estimate, constant (B, D)."""
    for r in prange(len(tokens)):
        for i in range(out.shape[1]):
            out[r, i] = table[tokens[r], i]
        if told[slots[r]]:
            for i in range(out.shape[1]):
                out[r, i] += constant[slots[r], i] + np.float32(sums[r, i]) * (scales[r] * weight_scales[i])


@parallel
def gates(hidden, weight, bias, out):
    """out (R,): how much the tiles count, 2 * sigmoid(hidden (R, D) @ weight + bias)."""
    for r in prange(len(hidden)):
        out[r] = np.float32(2 * sigmoid(np.float64(_sum(hidden[r] * weight) + bias)))


# ---- logits and frequencies ----


@jit
def _logits(told, sums, scale, head_scales, gone, gone_scale, odds, vector_scales, never, trust, table, seen, t, place,
            out):
    """Logits (V,) of one row: the decoder's and, if told (bool), what the tiles say.

    sums (V,): products of the hidden state with the head; gone (V,): of what was said with the tokens' vectors; odds
    (V,): of each token before anything was said; never (V,): softplus(-prior); table: softplus from -16 to 16; seen
    (S,): the tokens so far, t of them, which gain nothing.
    """
    for v in range(len(out)):
        out[v] = np.float32(sums[v]) * (scale * head_scales[v])
    if told:
        last = np.int32(len(table) - 1)
        for v in range(len(out)):
            x = np.float32(gone[v]) * (gone_scale * vector_scales[v]) - odds[v]
            at = np.rint(min(max(x, np.float32(-SOFTPLUS_FROM)), np.float32(SOFTPLUS_FROM)) * np.float32(STEPS))
            place[v] = min(np.int32(at) + np.int32(SOFTPLUS_FROM * STEPS), last)
            # Beyond the table softplus is x itself.
            out[v] += trust * (never[v] - max(x - np.float32(SOFTPLUS_FROM), np.float32(0)))
        for v in range(len(out)):
            out[v] -= trust * table[place[v]]
        for s in range(t):
            v = seen[s]
            out[v] = np.float32(sums[v]) * (scale * head_scales[v])


@parallel
def frequencies_of(positions, slots, told, sums, scales, head_scales, gone, gone_scales, odds, vector_scales, never,
                   trusts, softplus_table, seen, frequency_table, out, totals):
    """out (R, V) int32: the frequency of every token, a row each, and totals (R,) int64, their sums. slots (R,): whose
    row it is, and positions (R,) in it; told (B,) bool: whether a text has tiles. The rest as in `_logits`."""
    for r in prange(len(slots)):
        logits, place = np.empty(len(head_scales), np.float32), np.empty(len(head_scales), np.int32)
        slot = slots[r]
        _logits(told[slot], sums[r], scales[r], head_scales, gone[r], gone_scales[r], odds[slot], vector_scales,
                never, trusts[r], softplus_table, seen[slot], positions[r], place, logits)
        totals[r] = frequencies(logits, frequency_table, out[r])
