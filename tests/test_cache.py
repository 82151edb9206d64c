"""The cache beside the decoder: what it expects, how it is mixed, what it saves."""

import pydoc_data.topics
import zlib
from pathlib import Path

import naive
import numpy as np
import pytest
from conftest import decoder_bits

from models import WheelerTextAutoencoder
from wheeler.frame import cache
from wheeler.frame.contents import bits_of
from wheeler.frame.integer_decoder import IntegerDecoder
from wheeler.model.checkpoint import SHIPPED
from wheeler.model.inputs import encode_text
from wheeler.model.tokenizer import train_tokenizer
from wheeler.training.stories import stories

ROOT = Path(__file__).parents[1]

NONE = tuple(np.array(x, np.int32) for x in (np.ones(50), np.zeros(51), [], []))


def charged(tokens, frequencies, counts=NONE, rows=None):
    """(T, 3) charges of one text, and how much the decoder counts at its end; so many rows at a time."""
    size, weights, out = len(tokens), np.full(1, cache.START), np.zeros((len(tokens), 3), np.int64)
    seen, totals = np.array([tokens], np.int32), frequencies.sum(1, dtype=np.int64)
    for start in range(0, size, rows or size):
        part = np.arange(start, min(start + (rows or size), size))
        of_part = np.zeros((len(part), 3), np.int64)
        cache.charge_texts(np.array(tokens)[part], np.array([0]), np.array([0, len(part)]), part, seen, weights, counts,
                           frequencies[part], totals[part], of_part)
        out[part] = of_part
    return out, weights[0]


def some(seed: int, size: int = 40, vocabulary: int = 50):
    """Tokens that repeat themselves, and frequencies (T, V) of a decoder that is not sure of them."""
    rng = np.random.default_rng(seed)
    frequencies = (2**24 * rng.random((size, vocabulary)) ** 6).astype(np.int32) + 1
    return (rng.integers(0, 50, 9).tolist() * size)[:size], frequencies


@pytest.mark.parametrize("words", ["", "the cat sat on the mat. the dog sat on the cat."])
def test_charges_are_those_of_a_plain_mixture(monkeypatch, tmp_path, words):
    tokenizer = train_tokenizer([words or "a"], 300)
    (tmp_path / "primer.txt").write_text(words)
    monkeypatch.setattr(cache, "PRIMER", tmp_path / "primer.txt")
    primer = cache.primer_ids(tokenizer)
    assert [*primer, tokenizer.eos_token_id] == tokenizer(words)["input_ids"]
    tokens, frequencies = some(0, vocabulary=300)
    tokens = (primer + tokens)[:40]
    charges, _ = charged(tokens, frequencies, cache.counts_of(tokenizer, 300))
    wanted = naive.mixed_bits(tokens, (frequencies / frequencies.sum(1, keepdims=True)).tolist(), primer)
    assert bits_of(charges) == pytest.approx(wanted, rel=1e-4)


def test_a_text_row_by_row_is_charged_as_all_at_once():
    tokens, frequencies = some(1)
    whole, weight = charged(tokens, frequencies)
    for rows in (1, 7):
        again, last = charged(tokens, frequencies, rows=rows)
        assert np.array_equal(again, whole) and last == weight


def test_every_token_has_a_share_and_shares_are_whole():
    tokens, frequencies = some(2)
    every = np.stack([charged([*tokens[:20], token], frequencies[:21])[0][-1] for token in range(50)])
    assert (every[1:, 0] == every[:-1, 1]).all() and every[0, 0] == 0 and (every[:, 1] > every[:, 0]).all()
    assert (every[:, 2] == every[-1, 1]).all() and abs(every[0, 2] - 2**30) <= 50


def test_the_decoder_counts_less_where_the_cache_knows_better_and_comes_back():
    # 30 tokens that a decoder is wrong about and that repeat themselves, then 30 that it knows.
    others = np.random.default_rng(0).integers(0, 50, 30).tolist()
    tokens, frequencies = [3, 4] * 15 + others, np.ones((60, 50), np.int32)
    frequencies[:30, 9], frequencies[range(30, 60), others] = 2**20, 2**24
    charges, weight = charged(tokens, frequencies)
    cost = np.log2(charges[:, 2] / (charges[:, 1] - charges[:, 0]))
    assert charged(tokens[:30], frequencies[:30])[1] < 0.1 and weight > 0.9
    assert cost[8:30].max() < 1.5 and cost[40:].max() < 0.2                    # 20 each by the decoder alone


def test_it_costs_little_where_the_decoder_is_right():
    frequencies = np.ones((60, 50), np.int32)
    tokens = np.random.default_rng(0).integers(0, 50, 60)
    frequencies[range(60), tokens] = 2**24
    charges, _ = charged(tokens.tolist(), frequencies)
    assert bits_of(charges) < 1.0


def test_the_primer_is_what_it_was():
    """A letter changed in it, or a line end, would make every frame unreadable."""
    data = cache.PRIMER.read_bytes()
    assert len(data) == 128_552 and zlib.crc32(data) == 0x805237B9


@pytest.mark.slow
def test_what_is_no_story_costs_less_and_stories_cost_no_more():
    if not (ROOT / "checkpoints" / SHIPPED / "config.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    model = WheelerTextAutoencoder.load_from_checkpoint(ROOT / "checkpoints" / SHIPPED)
    decoder = IntegerDecoder(model)

    def ratio(texts):
        """Bits with the cache to bits without it."""
        texts = [encode_text(text, model.tokenizer, model.config)[0] for text in texts]
        mixed = decoder.charges(texts, [np.empty(0, np.int64)] * len(texts))
        return sum(map(bits_of, mixed)) / sum(decoder_bits(decoder, ids) for ids in texts)

    assert ratio(stories("validation", 20)) < 1.005
    assert ratio([text[:600] for _, text in sorted(pydoc_data.topics.topics.items())[:10]]) < 0.75
