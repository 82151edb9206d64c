"""The decoder in whole numbers: exact products, functions that are the same everywhere, and what they cost."""

import naive
import numba
import numpy as np
import pytest
import scipy.special
import torch

from models import WheelerTextAutoencoder
from wheeler.frame import cache, integer_decoder, integer_kernels, plain_math
from wheeler.frame.integer_decoder import EXACT_TERMS, IntegerDecoder, Matrix
from wheeler.model.config import WheelerConfig


@pytest.fixture(scope="module")
def model():
    """Random weights of all parts: every one of them takes part."""
    torch.manual_seed(0)
    model = WheelerTextAutoencoder(WheelerConfig(vocab_size=300, grid_size=32, d_model=64, max_seq_len=32, num_heads=2,
                                                 encoder_layers=1, decoder_layers=2)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight += (0.1 if "meaning" in name else 0.2) * torch.randn_like(weight)
        model.decoder.norm_out.weight.mul_(0.3)
    return model


def random_texts(count: int, seed: int = 0) -> tuple[list[list[int]], list[np.ndarray]]:
    """Token ids of texts closed by the end token, and numbers of tiles: none, and up to 11."""
    rng = np.random.default_rng(seed)
    texts = [[*rng.integers(3, 60, rng.integers(0, 30)).tolist(), 1] for _ in range(count)]
    return texts, [rng.integers(0, 12847, max(0, rng.integers(-3, 12))) for _ in range(count)]


def logits_bits(model, texts, tiles) -> float:
    """What the same decoder and a cache without a primer charge in float64."""
    exact, total = WheelerTextAutoencoder.from_checkpoint(model.to_checkpoint()).double().eval(), 0.0
    estimates, counts = map(torch.from_numpy, IntegerDecoder(model).estimates(tiles))
    for ids, estimate, count in zip(texts, estimates, counts, strict=True):
        ids = torch.tensor([ids])
        told = (estimate[None], count[None]) if count else (None, None)
        with torch.no_grad():
            logits = exact.told(ids, torch.ones_like(ids, dtype=torch.bool), *told)
        total += naive.mixed_bits(ids[0].tolist(), logits[0].softmax(-1).tolist())
    return total


def bits(charges: list[np.ndarray]) -> float:
    start, end, total = np.concatenate(charges).T
    return float(np.log2(total / (end - start)).sum())


@pytest.mark.parametrize("name, reference", [
    ("exp", np.exp), ("sigmoid", scipy.special.expit), ("softplus", lambda x: np.logaddexp(0, x)),
    ("normal", scipy.special.ndtr)])
def test_functions(name, reference):
    x = np.concatenate([np.linspace(-45, 45, 3001), [-800.0, -709, -1e-300, 0, 1e-20, 700]])
    with np.errstate(over="ignore"):
        assert plain_math.of_all(getattr(plain_math, name), x) == pytest.approx(reference(x), rel=1e-13, abs=1e-13)


def test_cosine_and_sine():
    x = np.concatenate([np.linspace(0, 300, 2001), np.arange(100) * np.pi / 2])
    found = np.array([plain_math.cosine_and_sine(value) for value in x])
    assert np.abs(found - np.stack([np.cos(x), np.sin(x)], 1)).max() < 1e-13


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("terms", [2, 96, EXACT_TERMS, EXACT_TERMS + 1, 4000])
def test_products_are_exact(monkeypatch, exact, terms):
    """The greatest sums of all included; `exact` False: a processor whose int8 products saturate."""
    if exact and not integer_decoder.int8_is_exact():
        pytest.skip("int8 products are not exact on this processor")
    monkeypatch.setattr(integer_decoder, "int8_is_exact", lambda: exact)
    rng = np.random.default_rng(terms)
    weight, levels = rng.normal(size=(40, terms)), rng.integers(-127, 128, (3, terms)).astype(np.int8)
    weight[0], levels[0] = 1, 127
    matrix = Matrix(weight)
    assert np.array_equal(matrix.product(levels), levels.astype(np.int64) @ matrix.levels.T.astype(np.int64))
    assert matrix.product(levels)[0, 0] == 127 * 127 * terms
    assert np.abs(matrix.levels * matrix.scales[:, None] - weight).max() <= np.abs(weight).max() / 254 + 1e-6


def test_levels():
    for x in (np.zeros(70), np.ones(3), np.random.default_rng(0).normal(size=1000), np.array([1e30, -3e30, 0])):
        x = x.astype(np.float32)
        levels = np.empty(len(x), np.int8)
        scale = integer_kernels.quantise(x, levels)
        assert np.abs(levels * scale - x).max() <= scale * 0.501 and np.abs(levels).max() == (127 if x.any() else 0)
    levels = np.ones(2, np.int8)
    assert integer_kernels.quantise(np.array([1e-38, -2e-38], np.float32), levels) == 0 and not levels.any()


def test_costs_hardly_more_than_in_float64(model):
    texts, tiles = random_texts(40)
    whole = IntegerDecoder(model).charges(texts, tiles)
    assert bits(whole) == pytest.approx(logits_bits(model, texts, tiles), rel=0.01)


def test_estimates_are_those_of_the_meaning(model):
    tiles = random_texts(10)[1]
    found, counts = IntegerDecoder(model).estimates(tiles)
    for row, estimate in zip(tiles, found, strict=True):
        codes = model.meaning.codes()[torch.from_numpy(row)][None]
        wanted = model.meaning.estimate(codes, torch.tensor([len(row)]))[0].detach().numpy()
        assert np.allclose(estimate, wanted, atol=1e-5)
    assert counts.tolist() == list(map(len, tiles)) and 0 in counts


def test_step_by_step_is_all_at_once(model):
    """Reading takes the same numbers as writing, for texts that end at different places."""
    decoder = IntegerDecoder(model)
    texts, tiles = random_texts(9)
    whole = decoder.charges(texts, tiles)
    state, slots, t = decoder.texts(*decoder.estimates(tiles), 32), np.arange(9), 0
    while len(slots):
        tokens = np.array([texts[i][t - 1] if t else 0 for i in slots])
        charges = np.empty((len(slots), 3), np.int64)
        starts = np.arange(len(slots) + 1)
        cache.charge_texts(np.array([texts[i][t] for i in slots]), slots, starts, *decoder._rows(
            state, slots, tokens, starts), charges)
        assert all(np.array_equal(row, whole[i][t]) for i, row in zip(slots, charges, strict=True))
        t += 1
        slots = np.array([i for i in slots if len(texts[i]) > t], dtype=np.int64)


def test_threads_batches_and_products_change_nothing(model, monkeypatch):
    texts, tiles = random_texts(12)
    wanted = IntegerDecoder(model).charges(texts, tiles)
    same = lambda found: all(map(np.array_equal, found, wanted))
    monkeypatch.setattr(integer_decoder, "ROWS", 20)
    assert same(IntegerDecoder(model).charges(texts, tiles))
    monkeypatch.setattr(integer_decoder, "int8_is_exact", lambda: False)
    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        torch.set_num_threads(1)
        numba.set_num_threads(1)
        decoder = IntegerDecoder(model)
        assert same([decoder.charges([text], [row])[0] for text, row in zip(texts, tiles, strict=True)])
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def test_a_half_precision_model_has_the_same_numbers(model):
    texts, tiles = random_texts(6)
    half = WheelerTextAutoencoder.from_checkpoint(model.to_checkpoint()).half()
    assert all(map(np.array_equal, IntegerDecoder(half).charges(texts, tiles),
                   IntegerDecoder(WheelerTextAutoencoder.from_checkpoint(half.to_checkpoint()).float()).charges(
                       texts, tiles)))
