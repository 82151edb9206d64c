"""Where a new model starts, as a language model: a bigram model of its texts; and the made-up texts of its batches."""

import math

import numpy as np
import pytest
import torch

from models import WheelerTextAutoencoder
from wheeler.model.config import WheelerConfig
from wheeler.model.decoding import text_bits
from wheeler.model.tokenizer import train_tokenizer
from wheeler.training.bigrams import SMOOTHING, bigram_counts, start_language
from wheeler.training.data import EpochBatches, build_dataset
from wheeler.training.stories import stories
from wheeler.training.unusual import unusual_tokens


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    tokenizer = train_tokenizer(stories("train"), 400)
    return tokenizer, build_dataset(stories("train"), tokenizer, 64, tmp_path_factory.mktemp("cache"))


def new_model(tokenizer, **changes):
    torch.manual_seed(0)
    return WheelerTextAutoencoder(WheelerConfig(
        vocab_size=400, grid_size=32, max_seq_len=64, decoder_layers=2, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **{"d_model": 128} | changes)).eval()


@torch.no_grad()
def bits_a_token(model, data):
    ids, mask = data.batch(range(200))
    return float(text_bits(model.told(ids, mask, None, None), ids, mask).sum() / mask.sum())


def test_the_language_model_starts_as_a_bigram_model(data):
    tokenizer, texts = data
    model = new_model(tokenizer)
    start_language(model, texts)
    counts = bigram_counts(model, texts).to_dense().numpy()
    ids, mask = (x.numpy() for x in texts.batch(range(len(texts))))
    assert counts.sum() == mask.sum()
    first = np.unique(ids[:, 0], return_counts=True)
    assert np.array_equal(counts[tokenizer.bos_token_id][first[0]], first[1])
    share = (counts.sum(0) + 0.5) / (counts.sum() + 0.5 * 400)
    table = (counts + SMOOTHING * share) / (counts.sum(1, keepdims=True) + SMOOTHING)
    before = np.concatenate([np.full((200, 1), tokenizer.bos_token_id), ids[:200, :-1]], 1)[mask[:200]]
    wanted = -np.log2(table[before, ids[:200][mask[:200]]]).mean()
    unigram = -np.log2(share[ids[:200][mask[:200]]]).mean()
    assert bits_a_token(model, texts) == pytest.approx(wanted, abs=0.15)
    assert wanted < unigram - 1.5 and bits_a_token(new_model(tokenizer), texts) > math.log2(400)
    again = new_model(tokenizer)
    start_language(again, texts)
    assert again.fingerprint() == model.fingerprint()                         # every process draws the same start


def test_fewer_dimensions_hold_less_of_it(data):
    tokenizer, texts = data
    small, large = new_model(tokenizer, d_model=32, num_heads=1), new_model(tokenizer)
    for model in (small, large):
        start_language(model, texts)
    assert bits_a_token(large, texts) < bits_a_token(small, texts) < 7.5


def test_copying_is_there_with_it(data):
    tokenizer, texts = data
    model = new_model(tokenizer)
    start_language(model, texts)
    ids, mask = texts.batch(range(100))
    with torch.no_grad():
        right = model(ids, mask)[0].argmax(-1) == ids
    assert (right | ~mask).all()
    random = new_model(tokenizer, aligned_start=False)
    before = random.fingerprint()
    start_language(random, texts)
    assert random.fingerprint() == before


def test_made_up_texts_are_of_many_scripts_and_the_same_everywhere(data):
    tokenizer, _ = data
    ids = unusual_tokens(tokenizer)
    assert np.array_equal(ids, unusual_tokens(tokenizer))
    assert not np.array_equal(ids[:100], unusual_tokens(tokenizer, 1)[:100])
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert not special & set(ids.tolist())
    text = tokenizer.decode(ids)
    scripts = [sum(low <= ord(c) <= high for c in text) for low, high in (
        (0x61, 0x7A), (0x30, 0x39), (0xE0, 0xFF), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF), (0x3040, 0x30FF),
        (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF))]
    assert min(scripts) > 500 and scripts[0] > 5 * min(scripts)


def test_share_of_made_up_texts(data):
    tokenizer, texts = data
    unusual = unusual_tokens(tokenizer)
    plain, mixed = (EpochBatches(texts, 20, 0, 0, 0.0, 10, unusual_text_share=share, unusual=unusual)
                    for share in (0.0, 0.4))
    changed = []
    for i in range(len(plain)):
        (ids, mask), (other, same_mask) = plain[i], mixed[i]
        assert torch.equal(mask, same_mask) and mixed.tokens(i) == plain.tokens(i)
        changed.append((ids != other).any(1).numpy())
        ends = ids == tokenizer.eos_token_id
        assert torch.equal(ends & mask, (other == tokenizer.eos_token_id) & mask)
        assert torch.equal(other, mixed[i][0])
    share = np.mean(changed, 0)
    assert 0.25 < share[:10].mean() < 0.55 and 0.25 < share[10:].mean() < 0.55      # rows of every kind
