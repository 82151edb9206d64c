"""The Wheeler dynamics in plain loops, written from the rule, and what a cache beside a language model expects: oracles
of the tests. Share nothing with the code."""

import math
from collections import Counter

import numpy as np


def mixed_bits(tokens, probabilities, primer=()):
    """Bits of tokens (T,) under the probabilities (T, V) of a model, mixed with those of a cache after a primer."""
    vocabulary, weight, total = len(probabilities[0]), 0.95, 0.0
    for t, (token, decoder) in enumerate(zip(tokens, probabilities, strict=True)):
        single, pairs, kinds = Counter(range(vocabulary)), Counter(), 1
        for text, times, pair_times in ((primer, 1, 1), (tokens[:t], 200, 40)):
            for other in text:
                single[other] += times
            for before, after in zip(text, text[1:]) if t else ():
                if before == tokens[t - 1]:
                    kinds += pair_times == 40 or after not in pairs
                    pairs[after] += pair_times
        cache = (pairs[token] + kinds * single[token] / single.total()) / (pairs.total() + kinds)
        mixed = weight * decoder[token] + (1 - weight) * cache
        total -= math.log2(mixed)
        weight = 0.95 * weight * decoder[token] / mixed + 0.05 * 0.95
    return total


def tick(frame, tie_break="min", push=0.35, climb=0.20):
    """One tick of an (H, W) array. Every operation is one correctly rounded operation in the array's dtype."""
    kind = frame.dtype.type
    height, width = frame.shape
    new = np.empty_like(frame)
    for i in range(height):
        for j in range(width):
            v = frame[i, j]
            near = [frame[i - 1, j], frame[(i + 1) % height, j], frame[i, j - 1], frame[i, (j + 1) % width]]
            hi, lo = near[0], near[0]
            for n in near[1:]:
                hi, lo = (n if n > hi else hi), (n if n < lo else lo)
            if v <= lo and v >= hi and tie_break == "none":
                new[i, j] = v
                continue
            if v <= lo and not (v >= hi and tie_break == "max"):
                delta = (kind(-1) - v) * kind(push)
            elif v >= hi:
                delta = (kind(1) - v) * kind(push)
            else:
                delta = (hi - v) * kind(climb)
            new[i, j] = min(max(v + delta, kind(-1)), kind(1))
    return new


def mean_change(new, old):
    """mean(|new - old|) in the documented order: columns downwards, 16 lanes (column mod 16), lanes left to right."""
    height, width = new.shape
    zero = new.dtype.type(0)
    lanes = [zero] * 16
    for j in range(width):
        column = zero
        for i in range(height):
            column = column + abs(new[i, j] - old[i, j])
        lanes[j % 16] = lanes[j % 16] + column
    total = lanes[0]
    for lane in lanes[1:]:
        total = total + lane
    return float(total) / (height * width)


def roles(frame):
    height, width = frame.shape
    out = np.zeros((height, width), int)
    for i in range(height):
        for j in range(width):
            v = frame[i, j]
            near = [frame[i - 1, j], frame[(i + 1) % height, j], frame[i, j - 1], frame[i, (j + 1) % width]]
            out[i, j] = -1 if all(v <= n for n in near) else 1 if all(v >= n for n in near) else 0
    return out


def period(role_maps):
    """First p of 2..10 with at least 1% of all cells changing role, and repeating after p, in these maps; 0 if none."""
    count = len(role_maps)
    height, width = role_maps[0].shape
    for p in range(2, 11):
        hits = 0
        for i in range(height):
            for j in range(width):
                line = [int(m[i, j]) for m in role_maps]
                if len(set(line)) > 1 and all(line[t] == line[t + p] for t in range(count - p)):
                    hits += 1
        if 100 * hits >= height * width:
            return p
    return 0


def change_99(new, old):
    """The 99th percentile of |new - old|: sorted, between the two nearest places in proportion, in float64."""
    height, width = new.shape
    changes = sorted(float(abs(new[i, j] - old[i, j])) for i in range(height) for j in range(width))
    place, rest = divmod(99 * (len(changes) - 1), 100)
    return changes[place] + (changes[place + 1] - changes[place]) * (rest / 100)


def tick_new(frame):
    """One tick of rule v0.3."""
    return tick(frame, "none", 0.57, 0.55)


def degenerate(frame):
    """Whether under 5% of the cells are beyond 0.33."""
    return 20 * sum(abs(v) > frame.dtype.type(0.33) for v in frame.ravel()) < frame.size


def run(frame, max_ticks=1000, tie_break="min", rule="v0.2", threshold=1e-4):
    """Returns (state, ticks, period, history as a list with the input first)."""
    history, calm = [frame], 0
    for i in range(max_ticks):
        history.append(tick(history[-1], tie_break) if rule == "v0.2" else tick_new(history[-1]))
        if rule == "v0.2":
            if mean_change(history[-1], history[-2]) < threshold:
                return "CONVERGED", i + 1, 0, history
        else:
            calm = calm + 1 if change_99(history[-1], history[-2]) < threshold else 0
            if calm == 3:
                return "DEGENERATE" if degenerate(history[-1]) else "CONVERGED", i + 1, 0, history
        if i >= 60 and i % 10 == 0:
            found = period([roles(f) for f in history[-20:]])
            if found:
                return "OSCILLATING", i + 1, found, history
    return "CHAOTIC", max_ticks, -1, history
