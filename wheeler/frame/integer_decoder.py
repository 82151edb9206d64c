"""The decoder without a grid in whole numbers: the same bits on every machine, and faster than in float64.

Matrix products sum products of int8 numbers, which are exact in any order; what stands between them has one order
(integer_kernels.py) and no function that differs between machines (plain_math.py). So a frame that one machine writes
is read by another, with any number of threads and any batch. Frames cost about 0.1% more bits than in float64.

Weights have a scale a row, activations a scale a token. Letters as in integer_kernels.py.
"""

import math
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import nn

from wheeler.dynamics.tiles import tile_words
from wheeler.frame import cache
from wheeler.frame import integer_kernels as kernels
from wheeler.frame.arithmetic import frequency_table
from wheeler.frame.plain_math import cosine_and_sine, exp, normal, of_all, softplus
from wheeler.model.meaning import CODE, SIGNAL, SLOPE

ROWS = 384                                                                    # tokens at a time: what fits into caches
EXACT_TERMS = 1040                                                            # 127 * 127 * 1040 < 2^24, float32's limit


@lru_cache(maxsize=1)
def tables() -> dict[str, np.ndarray]:
    """What the kernels look up, 256 entries a unit: gelu and softplus float32, exponent int32."""
    steps = lambda most, least: np.arange(least * kernels.STEPS, most * kernels.STEPS + 1) / kernels.STEPS
    at = kernels.NORMAL_FROM, kernels.SOFTPLUS_FROM
    return {"gelu": of_all(normal, steps(at[0], -at[0])).astype(np.float32),
            "softplus": of_all(softplus, steps(at[1], -at[1])).astype(np.float32),
            "exponent": np.rint(2.0**20 * of_all(exp, -steps(15, 0))).astype(np.int32),
            "frequency": frequency_table()}


@lru_cache(maxsize=1)
def int8_is_exact() -> bool:
    """Whether torch multiplies int8 matrices right. Without AVX-512's or AVX's VNNI, 16-bit sums saturate."""
    rng, values = np.random.default_rng(0), np.array([-127, 127, 126, -3], np.int8)
    a, b = (torch.from_numpy(rng.choice(values, shape)) for shape in ((5, 96), (96, 32)))
    b[:, 0], a[0] = 127, 127                                                  # the greatest sums of all
    try:
        return torch.equal(torch._int_mm(a, b), (a.long() @ b.long()).int())
    except (RuntimeError, AttributeError):
        return False


class Matrix:
    """A matrix (N, K) float32 as int8 levels, with a scale (N,) float32 for each of its rows."""

    def __init__(self, weight: np.ndarray):
        weight = np.ascontiguousarray(weight, np.float32)
        self.levels, self.scales = np.empty(weight.shape, np.int8), np.empty(len(weight), np.float32)
        kernels.quantise_rows(weight, self.levels, self.scales)
        turned = torch.from_numpy(self.levels).t()                            # (K, N)
        self.turned = turned if int8_is_exact() else turned.float()

    def product(self, levels: np.ndarray) -> np.ndarray:
        """Levels (R, K) int8 -> their exact products (R, N) int32 with the matrix's."""
        levels = torch.from_numpy(levels)
        if self.turned.dtype == torch.int8:
            return torch._int_mm(levels, self.turned).numpy()
        # Sums of so few products are whole numbers below 2^24, which float32 holds, in whatever order they are added.
        sums = torch.zeros(len(levels), self.turned.shape[1], dtype=torch.int32)
        for start in range(0, levels.shape[1], EXACT_TERMS):
            part = slice(start, start + EXACT_TERMS)
            sums += (levels[:, part].float() @ self.turned[part]).int()
        return sums.numpy()


class Layer:
    """A layer of the decoder, its cross-attention left out. weights: those of the layer, by their names."""

    def __init__(self, weights: dict[str, np.ndarray]):
        self.query_key_value, self.out, self.up, self.down = (Matrix(weights[f"{name}.weight"]) for name in (
            "self_attention.query_key_value", "self_attention.out", "mlp.up", "mlp.down"))
        self.norm_self, self.norm_mlp = weights["norm_self.weight"], weights["norm_mlp.weight"]


class Texts:
    """Texts that a decoder is told of, each as far as it was read: `IntegerDecoder.texts`.

    told (B,): whether a text has tiles; constant (B, D): what they inject; sharp (B,); odds (B, V); said (B, Dm); seen
    (B, S): tokens; before (B,): how many rows each has read; weights (B,): how much the decoder counts, the rest is the
    cache's; keys, values, stored: see `attend`, a list of layers.
    """

    def __init__(self, told: np.ndarray, constant: np.ndarray, sharp: np.ndarray, odds: np.ndarray, dim: int,
                 length: int, layers: int, heads: int):
        rows, width = len(told), constant.shape[1] // heads
        self.told, self.constant, self.sharp, self.odds = told, constant, sharp, odds
        self.said, self.seen = np.zeros((rows, dim), np.float32), np.zeros((rows, length), np.int32)
        self.before, self.weights = np.zeros(rows, np.int64), np.full(rows, cache.START)
        self.keys = [np.zeros((rows, heads, width, length), np.int8) for _ in range(layers)]
        self.values = [np.zeros((rows, heads, length, width), np.int8) for _ in range(layers)]
        self.stored = [np.zeros((2, rows, heads, length), np.float32) for _ in range(layers)]


class IntegerDecoder:
    """A WheelerTextAutoencoder's decoder without a grid, told by meaning tiles. On the CPU, whatever the model is on.
    Holds copies of the weights: make a new one after training."""

    @torch.no_grad()
    def __init__(self, model: nn.Module):
        self.config, meaning = model.config, model.meaning
        copies = {name: weight.float().cpu().numpy() for name, weight in model.state_dict().items()
                  if name.startswith(("decoder.", "meaning."))}
        of = copies.__getitem__
        vocabulary = self.config.vocab_size
        self.heads, self.embedding = self.config.num_heads, of("decoder.embedding.weight")
        self.counts = cache.counts_of(model.tokenizer, vocabulary)
        self.layers = [Layer({name.removeprefix(f"decoder.layers.{k}."): weight for name, weight in copies.items()})
                       for k in range(self.config.decoder_layers)]
        self.norm_out = of("decoder.norm_out.weight")
        self.head = Matrix(of("decoder.language_head.weight")[:vocabulary])
        self.rope = rotary(self.config.max_seq_len, self.config.d_model // self.heads)
        # ---- the meaning: see `Meaning.told`, `Meaning.injection` and `Meaning.evidence`
        self.dim, self.vectors, self.centre = meaning.dim, of("meaning.table.weight"), of("meaning.centre")
        weight = of_all(exp, of("meaning.weight"))                            # (V,) float64
        self.weight = weight.astype(np.float32)
        self.usual = float(of_all(exp, of("meaning.length")))
        self.sharpness = float(of_all(exp, of("meaning.sharpness")))
        self.prior = of("meaning.prior").astype(np.float64)
        self.never = of_all(softplus, -self.prior).astype(np.float32)
        self.gate, self.gate_bias = of("meaning.gate.weight")[0], float(of("meaning.gate.bias")[0])
        inject = of("meaning.inject.weight")                                  # (D, 2 Dm)
        self.inject_estimate = Matrix(inject[:, : self.dim] * np.float32((2 * self.dim) ** -0.5))
        self.inject_said = Matrix(inject[:, self.dim :] * np.float32(2**-0.5 / self.usual))
        self.evidence = Matrix(self.vectors * self.weight[:, None])
        self.squares = np.zeros(vocabulary)                                   # of the vectors, by their weights
        for column in self.vectors.T.astype(np.float64):
            self.squares += column * column
        self.squares *= weight * weight
        self.projections = lambda tiles: meaning.projections(tiles).float().cpu().numpy()
        words, self.basis = tile_words().astype(np.float64), of("meaning.basis").astype(np.float64)
        self.words, self.mean = words, words.sum(0) / len(words)

    # ---- what meaning tiles tell ----

    def estimates(self, tiles: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of meaning tiles of each text -> estimates (B, Dm) float64 of the meanings, and how many tiles each
        has, (B,): `Meaning.estimate`."""
        counts = np.array([len(row) for row in tiles])
        out = np.zeros((len(tiles), self.dim))
        projections = self.projections(int(counts.max()))
        for row, numbers in zip(out, tiles, strict=True):
            kernels.add_up(self.words[numbers], self.mean, self.basis, projections, row)
        return out * (math.sqrt(self.dim) / (SLOPE * CODE) / np.maximum(counts, 1))[:, None], counts

    def _double(self, matrix: Matrix, x: np.ndarray) -> np.ndarray:
        """Products (B, N) float64 of x (B, K) with a matrix, x in two steps of levels: once a text, so it may cost."""
        out, left = np.zeros((len(x), len(matrix.scales))), x.astype(np.float32)
        for _ in range(2):
            levels, scales = np.empty(left.shape, np.int8), np.empty(len(left), np.float32)
            kernels.quantise_rows(left, levels, scales)
            out += matrix.product(levels) * (scales[:, None].astype(np.float64) * matrix.scales)
            left = left - levels * scales[:, None]
        return out

    def texts(self, estimate: np.ndarray, counts: np.ndarray, length: int) -> Texts:
        """Texts of at most `length` tokens that are told estimates (B, Dm) of their meanings from counts (B,) of tiles:
        what `estimates` gives."""
        signal = SIGNAL * np.maximum(counts, 1e-6)
        trust = 1 / (1 + self.dim / signal)
        constant = self._double(self.inject_estimate, estimate * trust[:, None])
        sums = self.usual * (estimate / math.sqrt(self.dim) + self.centre)
        sharp = self.sharpness / (self.usual**2 * (1 / signal + 1 / self.dim))
        odds = self.prior + sharp[:, None] * (self._double(self.evidence, sums) - self.squares / 2)
        positions = -(-length // 64) * 64
        return Texts(counts > 0, constant.astype(np.float32), sharp.astype(np.float32), odds.astype(np.float32),
                     self.dim, positions, len(self.layers), self.heads)

    # ---- tokens ----

    def _rows(self, texts: Texts, slots: np.ndarray, tokens: np.ndarray, starts: np.ndarray) -> tuple:
        """Reads tokens (R,), of texts `slots` from rows `starts` on. What the cache's kernels need of them: positions,
        tokens seen, weights, counts, and the frequencies of the decoder with their sums."""
        before, rows, table = texts.before[slots], len(tokens), tables()
        levels = lambda width: (np.empty((rows, width), np.int8), np.empty(rows, np.float32))
        said, said_scales = levels(self.dim)
        kernels.say(tokens, self.vectors, self.weight, self.config.eos_token_id, slots, starts,
                    before, texts.seen, texts.said, said, said_scales)
        counts, nothing = np.diff(starts), np.empty((rows, 0), np.int32)
        of_row = np.repeat(slots, counts)
        product = (lambda matrix: matrix.product(said)) if texts.told[slots].any() else lambda _: nothing
        x, normed = (np.empty((rows, self.config.d_model), np.float32) for _ in range(2))
        kernels.embed(tokens, self.embedding, of_row, texts.told, product(self.inject_said), said_scales,
                      self.inject_said.scales, texts.constant, x)
        (narrow, narrow_scales), (wide, wide_scales) = levels(x.shape[1]), levels(len(self.layers[0].up.scales))
        kernels.add_and_norm(x, nothing, said_scales, said_scales, self.layers[0].norm_self, normed, narrow,
                             narrow_scales)
        norms = [layer.norm_self for layer in self.layers[1:]] + [self.norm_out]
        for k, (layer, norm) in enumerate(zip(self.layers, norms, strict=True)):
            matrix = layer.query_key_value
            kernels.attend(matrix.product(narrow), narrow_scales, matrix.scales, self.rope, slots, starts, before,
                           texts.keys[k], texts.values[k], texts.stored[k], table["exponent"], normed)
            kernels.quantise_rows(normed, narrow, narrow_scales)
            kernels.add_and_norm(x, layer.out.product(narrow), narrow_scales, layer.out.scales, layer.norm_mlp, normed,
                                 narrow, narrow_scales)
            kernels.gelu(layer.up.product(narrow), narrow_scales, layer.up.scales, table["gelu"], wide, wide_scales)
            kernels.add_and_norm(x, layer.down.product(wide), wide_scales, layer.down.scales, norm, normed, narrow,
                                 narrow_scales)
        trusts = np.zeros(rows, np.float32)
        kernels.gates(normed, self.gate, self.gate_bias, trusts)
        positions = np.arange(rows) - np.repeat(starts[:-1] - before, counts)
        texts.before[slots] += counts
        frequencies, totals = np.empty((rows, self.config.vocab_size), np.int32), np.empty(rows, np.int64)
        kernels.frequencies_of(positions, of_row, texts.told, self.head.product(narrow), narrow_scales,
                               self.head.scales, product(self.evidence), said_scales * texts.sharp[of_row], texts.odds,
                               self.evidence.scales, self.never, trusts, table["softplus"], texts.seen,
                               table["frequency"], frequencies, totals)
        return positions, texts.seen, texts.weights, self.counts, frequencies, totals

    def charges(self, texts: list[list[int]], tiles: list[np.ndarray]) -> list[np.ndarray]:
        """(T, 3) int64 a text, given the numbers of its meaning tiles: start, end and total of the frequencies of every
        token."""
        out, first, (estimates, counts) = [], 0, self.estimates(tiles)
        ends = np.array([0, *accumulate(map(len, texts))])
        while first < len(texts):
            last = int(np.searchsorted(ends, ends[first] + ROWS, side="right")) - 1            # texts for ROWS tokens
            rows = slice(first, max(first + 1, last))
            part, starts = texts[rows], ends[first : rows.stop + 1] - ends[first]
            state = self.texts(estimates[rows], counts[rows], max(map(len, part)))
            inputs = np.concatenate([[self.config.bos_token_id, *ids[:-1]] for ids in part])
            charges = np.empty((len(inputs), 3), np.int64)
            slots = np.arange(len(part))
            cache.charge_texts(np.concatenate(part), slots, starts, *self._rows(state, slots, inputs, starts), charges)
            out += np.split(charges, starts[1:-1])
            first = rows.stop
        return out

    def next(self, texts: Texts, slots: np.ndarray, tokens: np.ndarray, coders: np.ndarray,
             digits: np.ndarray) -> np.ndarray:
        """The tokens (R,) that the numbers of texts `slots` say after tokens (R,), -1 where a number says no more.
        coders (B, 3), digits (B, n): of the numbers, see arithmetic.py."""
        out = np.empty(len(slots), np.int64)
        cache.read_texts(coders, digits, slots, *self._rows(texts, slots, tokens, np.arange(len(slots) + 1)), out)
        return out


def rotary(length: int, width: int) -> np.ndarray:
    """(2, length, width / 2) float32: cosines and sines of position * 10000^(-2 j / width)."""
    frequencies = [exp(-2 * j / width * 9.210340371976184) for j in range(width // 2)]         # log 10000
    return np.array([[cosine_and_sine(t * f) for f in frequencies] for t in range(length)]).transpose(2, 0, 1).astype(
        np.float32).copy()
