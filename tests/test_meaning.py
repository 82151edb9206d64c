"""Meaning tiles: the sums against plain loops, the evidence against Bayes' rule, and what tiles must not do."""

import math

import numpy as np
import pytest
import torch

from models import WheelerTextAutoencoder
from wheeler.dynamics.tiles import tile_words
from wheeler.measure.metrics import TokenRows
from wheeler.model.config import WheelerConfig
from wheeler.model.decoding import Teller
from wheeler.model.meaning import CODE, Meaning, projections
from wheeler.model.start import start_meaning

BOS, EOS, PAD = 0, 1, 2


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = WheelerConfig(vocab_size=100, grid_size=32, d_model=64, max_seq_len=32, encoder_layers=1, grid_layers=0,
                           decoder_layers=2)
    model = WheelerTextAutoencoder(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in ("meaning.table.weight", "meaning.length"):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def random_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    ids = torch.randint(3, 100, (rows, length), generator=torch.Generator().manual_seed(seed))
    ids[:, -1] = EOS
    return ids


def whole(ids: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(ids, dtype=torch.bool)


def test_projections_are_signs_and_orthogonal_within_a_block():
    rows = projections(6, 128).reshape(-1, 128)
    assert rows.shape == (6 * CODE, 128) and set(np.unique(rows)) == {-1.0, 1.0}
    assert np.array_equal(rows[:128] @ rows[:128].T, 128 * np.eye(128))
    assert np.array_equal(projections(3, 128), projections(6, 128)[:3])       # more tiles add, nothing changes
    assert np.abs(rows[:16] @ rows[128:144].T).max() < 128


def test_a_meaning_is_the_weighted_sum_of_token_vectors(model):
    meaning, ids = model.meaning, torch.tensor([[5, 7, 5, 9, 5, EOS, PAD]])
    mask = ids != PAD
    with torch.no_grad():
        says = model.says(ids, mask)
        assert says.tolist() == [[True] * 5 + [False] * 2]
        seen, total = {}, torch.zeros(meaning.dim)
        for token in (5, 7, 5, 9, 5):
            seen[token] = seen.get(token, 0) + 1
            total += meaning.table.weight[token] * meaning.weight[token].exp() / seen[token]
        assert torch.allclose(meaning.terms(ids, says).sum(1)[0], total, atol=1e-5)
        before = meaning.before(meaning.terms(ids, says))
        assert before[0, 0].abs().max() == 0 and torch.allclose(before[0, 5], total, atol=1e-5)
        u = model.meanings(ids, mask)
        assert u.shape == (1, meaning.dim) and u.square().mean().item() == pytest.approx(1, abs=1e-4)
        padded = torch.cat([ids, torch.full((1, 4), PAD)], 1)
        assert torch.allclose(model.meanings(padded, padded != PAD), u, atol=1e-5)


def test_tiles_are_the_words_that_agree_best(model):
    meaning = model.meaning
    u = torch.randn(2, meaning.dim, generator=torch.Generator().manual_seed(1))
    numbers = meaning.choose(u, 5)
    words = torch.from_numpy(tile_words())
    for row, k in ((0, 0), (1, 4)):
        y = torch.from_numpy(projections(5, meaning.dim)[k]) @ u[row] / math.sqrt(meaning.dim)
        assert numbers[row, k] == ((words - words.mean(0)) @ meaning.basis @ y).argmax()
    cells = words[numbers]
    assert torch.allclose(meaning.cells_to_codes(cells), meaning.codes()[numbers], atol=1e-4)


def test_codes_are_made_once_in_float32_under_autocast(model, monkeypatch):
    monkeypatch.setattr(model.meaning, "_codes", None)
    with torch.autocast("cpu", torch.bfloat16):
        codes = model.meaning.codes()
        assert codes.dtype == torch.float32 and model.meaning.codes() is codes


def test_an_estimate_is_the_meaning_and_noise_that_tiles_take_away(model):
    meaning = model.meaning
    u = torch.randn(64, meaning.dim, generator=torch.Generator().manual_seed(2))
    u = u / u.square().mean(1, keepdim=True).sqrt()
    wrong = []
    for tiles in (2, 8, 15):
        estimate = meaning.estimate(meaning.codes()[meaning.choose(u, tiles)], torch.full((64,), tiles))
        assert (estimate * u).mean().item() == pytest.approx(1, abs=0.15)
        wrong.append((estimate - u).square().mean().item())
        assert wrong[-1] == pytest.approx(meaning.dim / (10 * tiles), rel=0.4)                 # SIGNAL
    assert wrong[0] > wrong[1] > wrong[2]
    nothing = meaning.estimate(torch.zeros(1, 3, CODE), torch.zeros(1))
    assert nothing.abs().max() == 0


def test_the_gradient_goes_straight_through(model):
    meaning = model.meaning
    u = torch.randn(1, meaning.dim, requires_grad=True)
    shown = meaning.shown(u, 3)
    assert torch.allclose(shown, meaning.codes()[meaning.choose(u, 3)], atol=1e-5)
    direction = torch.randn_like(shown)
    (shown * direction).sum().backward()
    by_hand = torch.einsum("bkc,kcd->bd", direction, meaning.projections(3)) / math.sqrt(meaning.dim) * 0.75
    assert torch.allclose(u.grad, by_hand, atol=1e-5)


def test_evidence_is_bayes_rule(model):
    """One text, one position, nothing said: log p(in the text | tiles) - log p(in the text) of each token."""
    meaning = model.meaning
    with torch.no_grad():
        hidden, logits = torch.zeros(1, 1, 64), torch.zeros(1, 1, 100)
        estimate, tiles = torch.randn(1, meaning.dim), torch.tensor([9.0])
        said, known = torch.zeros(1, 1, meaning.dim), torch.tensor([[[7, PAD]]])
        out = meaning.evidence(logits, hidden, meaning.told(estimate, tiles), said, known)[0, 0]
        trust = 2 * torch.sigmoid(meaning.gate(hidden))[0, 0, 0]
        usual = meaning.length.exp()
        variance = usual**2 * (1 / 90 + 1 / meaning.dim) / meaning.sharpness.exp()
        place = (estimate[0] / math.sqrt(meaning.dim) + meaning.centre) * usual
        for token in (3, 50, 99):
            vector = meaning.table.weight[token]
            weight = meaning.weight[token].exp()
            # Normal distributions of `place` along the token's vector, with and without it in the sum.
            ratio = ((place @ vector) * weight - weight**2 * (vector @ vector) / 2) / variance
            prior = torch.sigmoid(meaning.prior[token])
            posterior = prior * ratio.exp() / (prior * ratio.exp() + 1 - prior)
            assert out[token].item() == pytest.approx((trust * (posterior / prior).log()).item(), abs=1e-4)
        assert out[7] == pytest.approx(0, abs=1e-6)                           # the decoder knows of it
        none = meaning.evidence(logits, hidden, meaning.told(estimate * 0, torch.zeros(1)), said, known)
        assert none.abs().max() == 0


def test_without_tiles_the_decoder_is_the_language_model(model):
    ids = random_ids(3, 12)
    with torch.no_grad():
        told = model(ids, meaning_tiles=torch.zeros(3, dtype=torch.long))[0]
        assert torch.allclose(told, model(ids, blank_rows=3)[0], atol=1e-5)
        mixed = model(ids, meaning_tiles=torch.tensor([4]), blank_rows=1)[0]
        assert torch.allclose(mixed[2:], told[2:], atol=1e-5)
        assert torch.allclose(mixed[:1], model(ids[:1])[0], atol=1e-4)
        assert torch.allclose(mixed[1:2], model(ids[1:2], meaning_tiles=torch.tensor([4]))[0], atol=1e-4)
        assert not torch.allclose(mixed[1:2], told[1:2], atol=1e-2)


def test_a_later_token_is_told_by_tiles_only(model):
    """Given the same tiles, a later token never changes an earlier logit."""
    ids = random_ids(1, 10)
    changed = ids.clone()
    changed[0, 6:] = 7
    with torch.no_grad():
        meaning = model.meaning
        estimate = meaning.estimate(meaning.codes()[torch.tensor([[5, 6, 7]])], torch.tensor([3]))
        before, after = (model.told(x, whole(x), estimate, torch.tensor([3])) for x in (ids, changed))
    keep = [v for v in range(100) if v != PAD]                                # the padding's logit means nothing
    assert torch.allclose(before[:, :7][..., keep], after[:, :7][..., keep], atol=1e-5)
    assert (before[:, 7:] - after[:, 7:]).abs().amax() > 1e-3


def test_token_by_token_is_the_same_as_at_once(model):
    model, ids = model.double(), random_ids(3, 20)
    try:
        with torch.no_grad():
            meaning, tiles = model.meaning, torch.tensor([15, 0, 4])
            present = torch.arange(15) < tiles[:, None]
            codes = meaning.shown(model.meanings(ids, whole(ids)), 15) * present[..., None]
            estimate = meaning.estimate(codes, tiles)
            at_once, teller, rows = model.told(ids, whole(ids), estimate, tiles), Teller(model, estimate, tiles, 20), []
            tokens = torch.full((3, 1), BOS)
            for t in range(20):
                if t == 10:                                                   # rows may leave on the way
                    teller.keep([0, 2], t)
                    tokens = tokens[[0, 2]]
                rows.append(teller.step(tokens, t))
                tokens = ids[:, t : t + 1] if t < 9 else ids[[0, 2], t : t + 1] if t > 9 else ids[:, t : t + 1]
            keep = [v for v in range(100) if v != PAD]
            for t in range(20):
                wanted = at_once[:, t] if t < 10 else at_once[[0, 2], t]
                assert torch.allclose(rows[t][:, keep], wanted[:, keep], atol=1e-9)
    finally:
        model.float()


def test_start_knows_how_often_tokens_occur():
    torch.manual_seed(0)
    config = WheelerConfig(vocab_size=20, grid_size=16, d_model=64, max_seq_len=16, encoder_layers=1, grid_layers=0,
                           decoder_layers=1)
    model = WheelerTextAutoencoder(config)
    rows = [[3, 4, 5 + i % 4, EOS] for i in range(40)]
    start_meaning(model, TokenRows(rows, (BOS, EOS, PAD)))
    weight = model.meaning.weight.detach().exp()
    assert weight[3].item() == pytest.approx(0.02, abs=0.01) and weight[5].item() == pytest.approx(math.log(4), rel=0.1)
    assert weight[19] > weight[5] and torch.sigmoid(model.meaning.prior[5]).item() == pytest.approx(0.25, abs=0.03)
    sums = [model.meaning.terms(torch.tensor([row]), torch.tensor([row]) != EOS).sum(1) for row in rows]
    assert model.meaning.length.exp().item() == pytest.approx(torch.cat(sums).norm(dim=1).log().mean().exp().item(),
                                                              rel=0.05)
    random = WheelerTextAutoencoder(WheelerConfig(**vars(config) | {"aligned_start": False}))
    before = {k: v.clone() for k, v in random.state_dict().items()}
    start_meaning(random, TokenRows(rows, (BOS, EOS, PAD)))
    assert all(torch.equal(v, before[k]) for k, v in random.state_dict().items())


def test_tiles_save_bits_from_the_start():
    """The aligned start alone, with a language model that knows nothing: tiles tell which tokens come."""
    torch.manual_seed(0)
    config = WheelerConfig(vocab_size=500, grid_size=64, d_model=64, max_seq_len=32, encoder_layers=1, grid_layers=0,
                           decoder_layers=1)
    model, rng = WheelerTextAutoencoder(config).eval(), np.random.default_rng(0)
    data = TokenRows([[*rng.integers(3, 500, 20), EOS] for _ in range(100)], (BOS, EOS, PAD))
    start_meaning(model, data)
    with torch.no_grad():
        model.decoder.norm_out.weight.zero_()                                 # all tokens alike
        ids, mask = data.batch(np.arange(16))
        cost = lambda tiles: torch.nn.functional.cross_entropy(
            model(ids, mask, torch.full((16,), tiles))[0].transpose(1, 2), ids).item() / math.log(2)
        costs = [cost(tiles) for tiles in (0, 7, 31, 63)]
    assert costs[0] == pytest.approx(math.log2(500), abs=0.01) and costs[0] > costs[1] > costs[2] > costs[3]
    assert costs[3] < 0.75 * costs[0]


def test_more_tiles_than_the_models_own_frames_have():
    meaning = Meaning(50, 64, 128, most_tiles=3)
    assert meaning.projections(20).shape == (20, CODE, 128) and meaning.choose(torch.randn(2, 128), 20).shape == (2, 20)


def test_bits_retell_and_interpolate(tmp_path):
    from wheeler.model.tokenizer import train_tokenizer

    torch.manual_seed(0)
    texts = ["The fox ran home.", "A red hat.", "The rabbit saw a red fox."]
    tokenizer = train_tokenizer(texts * 4, 300)
    model = WheelerTextAutoencoder(WheelerConfig(vocab_size=len(tokenizer), grid_size=32, d_model=64, max_seq_len=32,
                                                 encoder_layers=1, grid_layers=0, decoder_layers=1), tokenizer).eval()
    ids = tokenizer(texts[0]).input_ids
    logits = model(torch.tensor([ids]), blank_rows=1)[0]
    wanted = torch.nn.functional.cross_entropy(logits[0], torch.tensor(ids), reduction="sum").item() / math.log(2)
    assert model.bits(texts)[0] == pytest.approx(wanted, rel=1e-5) and len(model.bits(texts)) == 3
    between = model.interpolate(texts[0], texts[1], steps=4)
    assert len(between) == 4 and (between[0], between[-1]) == (texts[0], texts[1])
    assert all(isinstance(text, str) for text in between)
    assert model.interpolate(texts[0], texts[1], steps=2) == texts[:2]
    with pytest.raises(ValueError, match="steps = 1"):
        model.interpolate(texts[0], texts[1], steps=1)
