"""Texts in perturbation-proof frames: the frame's half against the definition, the text's half against plain sums."""

import copy
import math
import random
from itertools import product

import numpy as np
import pytest
import torch

from models import WheelerConfig, WheelerTextAutoencoder
from tokenizer import train_tokenizer
from wheeler_code import (
    FrameCode,
    Interval,
    _cumulative,
    bytes_from_frame,
    fence_line,
    frame_bits,
    frame_from_bytes,
    frame_from_number,
    number_bits,
    number_from_frame,
    tile_codebook,
    tile_words,
)

TEXTS = ["Once upon a time there was a rabbit.", "", "The rabbit ran home. “Where is Zoë?” said the fox.", "A red hat"]


def is_perturbation_proof(frame: np.ndarray) -> bool:
    """Plain loops: no two -1 adjacent, every +1 touches a -1, on the torus."""
    height, width = frame.shape
    for i in range(height):
        for j in range(width):
            around = frame[(i - 1) % height, j], frame[(i + 1) % height, j], frame[i, j - 1], frame[i, (j + 1) % width]
            if (frame[i, j] == -1) == (-1 in around) or frame[i, j] not in (-1, 1):
                return False
    return True


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS * 4, 320)
    config = WheelerConfig(vocab_size=len(tokenizer), grid_size=32, d_model=64, max_seq_len=64, encoder_layers=1,
                           grid_layers=0, decoder_layers=2)
    model = WheelerTextAutoencoder(config, tokenizer).eval()
    with torch.no_grad():                                                     # give the language model opinions
        for parameter in model.decoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def ids_of(model, text: str) -> list[int]:
    return model.tokenizer(text).input_ids


# ---- the frame's half ----


@pytest.mark.parametrize("height, width", [(32, 32), (4, 6), (6, 4), (8, 20), (20, 8), (64, 64)])
def test_every_number_is_a_proof_frame_and_comes_back(height, width):
    rng = random.Random(0)
    for _ in range(5):
        number = rng.getrandbits(number_bits(height, width))
        frame, written = frame_from_number(number, height, width)
        assert frame.shape == (height, width) and frame.dtype == np.float32 and is_perturbation_proof(frame)
        back, read, contradictions = number_from_frame(frame)
        assert (read.low, read.size, contradictions) == (written.low, written.size, 0)
        assert read.low <= number < read.low + read.size and read.low <= back < read.low + read.size
        noisy = frame * np.random.default_rng(0).uniform(0.05, 1, frame.shape)
        assert number_from_frame(noisy)[:1] == (back,)


def test_the_code_reaches_every_frame_of_its_fence_once():
    """At 6 x 6 all frames can be listed: those of the code are exactly the maximal independent sets with the fence."""
    fence = np.ones((6, 6))
    fence[0, fence_line(6)] = fence[fence_line(6), 0] = -1
    touched = sum(np.roll(fence < 0, shift, axis) for shift in (1, -1) for axis in (0, 1)) > 0
    free = [(i, j) for i in range(1, 6) for j in range(1, 6) if not touched[i, j]]
    listed = set()
    for choice in product((1, -1), repeat=len(free)):
        frame = fence.copy()
        for cell, value in zip(free, choice, strict=True):
            frame[cell] = value
        if is_perturbation_proof(frame):
            listed.add(frame.tobytes())
    reached, position = set(), 0
    while position < 1 << number_bits(6, 6):                                  # interval after interval, none left out
        frame, interval = frame_from_number(position, 6, 6)
        assert interval.low == position
        reached.add(frame.astype(float).tobytes())
        position += interval.size
    assert reached == listed and len(listed) > 16


def test_tile_words_are_all_frames_of_8_by_8_cells_with_the_fence():
    words, reached, position = tile_words(), set(), 0
    while position < 1 << number_bits(8, 8):
        frame, interval = frame_from_number(position, 8, 8)
        reached.add(frame.tobytes())
        position += interval.size
    assert reached == {word.tobytes() for word in words} and len(words) == len(reached) == 12847
    rng = np.random.default_rng(0)
    for _ in range(50):                                                       # any mix of them
        mix = words[rng.integers(0, len(words), 6)].reshape(2, 3, 8, 8).transpose(0, 2, 1, 3).reshape(16, 24)
        assert is_perturbation_proof(mix)


def test_how_much_a_frame_holds():
    rng = random.Random(1)
    spent = [frame_from_number(rng.getrandbits(number_bits(32, 32)), 32, 32)[1].spent() for _ in range(20)]
    assert 295 < np.mean(spent) < 333 and np.std(spent) < 10


def test_damage_is_counted():
    frame = frame_from_number(random.Random(2).getrandbits(number_bits(16, 16)), 16, 16)[0]
    assert number_from_frame(frame)[2] == 0
    wrong = frame.copy()
    wrong[0, 0] *= -1
    assert number_from_frame(wrong)[2] == 1                                   # the fence itself
    i, j = np.argwhere(frame[2:, 2:] == -1)[0] + 2
    wrong = frame.copy()
    wrong[i - 1, j] = -1                                                      # two -1 cells adjacent
    assert number_from_frame(wrong)[2] > 0


@pytest.mark.parametrize("height, width", [(3, 4), (8, 3), (2, 8)])
def test_bad_sides(model, height, width):
    with pytest.raises(ValueError, match=f"{height} x {width}"):
        frame_from_number(0, height, width)
    with pytest.raises(ValueError, match="sides"):
        FrameCode(model, height, width)


def test_bad_numbers():
    for number in (-1, 1 << number_bits(8, 8)):
        with pytest.raises(ValueError, match="number"):
            frame_from_number(number, 8, 8)


def test_intervals_narrow_without_gaps():
    whole = Interval(40)
    parts = []
    for start, end in ((0, 3), (3, 4), (4, 11)):
        part = Interval(40)
        part.narrow(5, 9, 13)
        low, size = part.low, part.size
        part.narrow(start, end, 11)
        parts.append(part)
    assert parts[0].low == low and parts[2].low + parts[2].size == low + size
    assert all(a.low + a.size == b.low for a, b in zip(parts, parts[1:], strict=False))
    assert whole.spent() == 0 and math.isclose(parts[0].spent(), math.log2(13 / 4) + math.log2(11 / 3), rel_tol=1e-6)


# ---- the text's half ----


def test_frequencies_follow_the_probabilities():
    logits = np.random.default_rng(0).normal(size=(3, 50)) * 3
    cumulative = _cumulative(logits)
    assert cumulative.shape == (3, 51) and cumulative.dtype == np.int64 and (np.diff(cumulative) >= 1).all()
    wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose(np.diff(cumulative) / cumulative[:, -1:], wanted, rtol=0.02, atol=1e-6)
    far = _cumulative(np.array([0.0, -1000.0, -5.0]))
    assert far[2] - far[1] == 1                                               # nothing is impossible


def test_cost_is_the_loss_of_the_language_model(model):
    ids, model = ids_of(model, TEXTS[0]), copy.deepcopy(model)
    with torch.no_grad():
        model.decoder.norm_out.weight.mul_(0.1)  # no token below 2^-24, where costs are capped
        logits, _ = model(torch.tensor([ids]), blank_rows=1)
    bits = torch.nn.functional.cross_entropy(logits[0].double(), torch.tensor(ids), reduction="sum") / math.log(2)
    assert FrameCode(model).intervals([ids])[0].spent() == pytest.approx(bits.item() + 16, abs=0.5)


def test_texts_come_back_from_their_attractors(model):
    code = FrameCode(model)
    texts = [ids_of(model, text) for text in (TEXTS[1], TEXTS[3], "The fox ran home.")]
    frames, fits = code.write(texts)
    assert fits == [True] * 3 and frames.shape == (3, 32, 32) and all(map(is_perturbation_proof, frames))
    assert code.read(frames) == [(ids, True) for ids in texts]
    assert code.read(frames[1:2]) == [(texts[1], True)]                       # the batch makes no difference
    again, _ = FrameCode(model).write(texts)
    assert np.array_equal(again, frames)


def test_a_damaged_frame_is_not_trusted(model):
    code = FrameCode(model)
    ids = ids_of(model, "The fox ran home.")
    frame = code.write([ids])[0]
    for cell in ((5, 5), (9, 20), (30, 11)):
        damaged = frame.copy()
        damaged[0][cell] *= -1
        read, intact = code.read(damaged)[0]
        assert read == ids or not intact
    assert not code.read(np.ones_like(frame))[0][1]


def test_what_does_not_fit_is_said(model):
    code = FrameCode(model, 8, 8)                                             # ten bits
    frames, fits = code.write([ids_of(model, TEXTS[2])])
    assert fits == [False] and is_perturbation_proof(frames[0])
    read, intact = code.read(frames)[0]
    assert not intact and len(read) < 5
    random_ids = torch.randint(3, 300, (63,), generator=torch.Generator().manual_seed(0)).tolist() + [1]
    assert FrameCode(model).write([random_ids])[1] == [False]                 # no language model can help here


def test_wrong_frames(model):
    with pytest.raises(ValueError, match="wanted"):
        FrameCode(model).read(np.zeros((1, 16, 16)))


# ---- redundant frames ----


def test_tiles_are_proof_in_any_mix_and_far_apart():
    book = tile_codebook()
    assert book.shape == (256, 64)
    apart = (64 - book @ book.T) / 2 + 64 * np.eye(256)
    assert apart.min() >= 8
    for seed in range(3):
        payload = random.Random(seed).randbytes(20)
        frame = frame_from_bytes(payload, 32, 64)
        assert frame.shape == (32, 64) and is_perturbation_proof(frame) and bytes_from_frame(frame) == payload


def test_bytes_come_back_through_flips_and_erasures():
    rng = np.random.default_rng(0)
    for length, flips, erased in ((20, 0.08, 0.3), (40, 0.03, 0.1), (59, 0.0, 0.0)):
        payload = rng.bytes(length)
        frame = frame_from_bytes(payload, 64, 64)
        assert bytes_from_frame(np.where(rng.random(frame.shape) < flips, -frame, frame)) == payload
        hole = frame.copy()
        side = round(64 * erased**0.5)
        hole[5 : 5 + side, 9 : 9 + side] = 0
        assert bytes_from_frame(hole) == payload
    assert frame_from_bytes(bytes(60), 64, 64) is None


@pytest.mark.parametrize("side", [12, 16, 36, 136])                           # no whole tiles, too few, none, too many
def test_sizes_without_redundant_frames_are_named(side):
    for function in (lambda: frame_from_bytes(b"a", side, side), lambda: frame_bits(side, side, redundant=True)):
        with pytest.raises(ValueError, match=f"6 to 258 tiles of 8 x 8 cells, {side} x {side} cells are not"):
            function()


def test_frames_without_bytes_are_noticed():
    rng = np.random.default_rng(0)
    assert bytes_from_frame(rng.choice([-1.0, 1.0], (64, 64))) is None
    assert bytes_from_frame(np.zeros((64, 64))) is None and bytes_from_frame(np.ones((12, 12))) is None


def test_redundant_texts(model):
    code = FrameCode(model, 64, 64)
    texts = [ids_of(model, text) for text in ("", "A red hat", "The fox ran home.")]
    frames, fits = code.write(texts, redundant=True)
    assert fits == [True] * 3 and all(map(is_perturbation_proof, frames))
    damaged = np.where(np.random.default_rng(0).random(frames.shape) < 0.01, -frames, frames)
    assert code.read(frames) == code.read(damaged) == [(ids, True) for ids in texts]
    random_ids = torch.randint(3, 300, (60,), generator=torch.Generator().manual_seed(0)).tolist() + [1]
    frames, fits = code.write([random_ids], redundant=True)
    assert fits == [False] and (frames == 1).all()


# ---- the model's view ----


def test_a_text_survives_noise_and_collapse(model):
    text = "The fox ran home."
    frame = model.encode_frame(text)
    assert frame.shape == (1, 32, 32) and frame.dtype == torch.float32 and model.decode_frame(frame) == text
    for noise in (0.1, 0.5, 0.9):
        read, trajectory = model.survive(text, noise=noise, seed=1)
        assert read == text and trajectory.state == "CONVERGED"
        assert np.array_equal(np.sign(trajectory.final_frame), frame[0].numpy())
    assert model.survive(text, ticks=3, noise=0.5)[0] == text
    assert model.decode_frame(model.encode_frame(["A hat", "A fox"])) == ["A hat", "A fox"]


def test_what_the_model_says_of_damage_and_length(model):
    frame = model.encode_frame("The fox ran home.")
    frame[0, 1:] *= -1
    with pytest.warns(UserWarning, match="frame 0: damaged"):
        model.decode_frame(frame)
    with pytest.raises(ValueError, match=r"text 1 costs \d+ bits .* a frame of 32 x 32 holds about 2\d\d"):
        model.encode_frame(["A hat", "zq " * 20])
    for bad in (dict(noise=-1), dict(ticks=0)):
        with pytest.raises(ValueError, match=next(iter(bad))):
            model.survive("A hat", **bad)
    with pytest.raises(ValueError, match="NaN"):
        model.decode_frame(torch.full((32, 32), torch.nan))
