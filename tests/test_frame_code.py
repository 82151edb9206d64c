"""Texts in perturbation-proof frames: words and meaning against the definition, costs against plain sums."""

import copy
import math
import random
from fractions import Fraction

import naive
import numpy as np
import pytest
import torch
from reedsolo import RSCodec

from models import WheelerTextAutoencoder
from wheeler.dynamics.tiles import fence_line, join_tiles, split_tiles, tile_codebook, tile_numbers, tile_words
from wheeler.frame.arithmetic import (
    Interval,
    agreement,
    charge,
    digits_of,
    encode,
    frequencies,
    frequency_table,
    new_coder,
    read,
    spent,
)
from wheeler.frame.cache import primer_ids
from wheeler.frame.cells import (
    DOMINATED,
    NEEDY,
    OCCUPIED,
    _agreeing,
    fill_regions,
    meaning_count,
    number_bits,
    plausible,
    read_regions,
    without_edges,
    word_regions,
    words_bits,
)
from wheeler.frame.code import FrameCode, cost_of, frame_bits
from wheeler.frame.completion import times, unknown_from_known
from wheeler.frame.ngrams import ngram_field
from wheeler.frame.redundant import (
    _told_symbols,
    bytes_from_frame,
    frame_from_bytes,
    frame_from_symbols,
    symbols_from_frame,
    tile_count,
)
from wheeler.model.config import WheelerConfig
from wheeler.model.tokenizer import train_tokenizer
from wheeler_cpu import WheelerMemoryCPU, add_noise

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
        for parameter in (*model.decoder.parameters(), *(p for n, p in model.meaning.named_parameters()
                                                         if n not in ("table.weight", "length"))):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def frames_of(written) -> np.ndarray:
    return np.stack([one.frame for one in written])


def ids_of(model, text: str) -> list[int]:
    return model.tokenizer(text).input_ids


# ---- cells that hold words ----


def blank(height: int, width: int) -> np.ndarray:
    return np.ones((height, width), np.float32)


@pytest.mark.parametrize("height, width", [(8, 16), (16, 8), (24, 40), (64, 64)])
def test_every_number_is_a_proof_frame_and_comes_back(height, width):
    rng, region = random.Random(0), [(0, 0, height, width)]
    for _ in range(5):
        number, frame = rng.getrandbits(number_bits(height, width)), blank(height, width)
        written = fill_regions(frame, region, number)
        assert is_perturbation_proof(frame)
        back, read, contradictions = read_regions(frame, region)
        assert (read.low, read.size, contradictions) == (written.low, written.size, 0)
        assert read.low <= number < read.low + read.size and read.low <= back < read.low + read.size
        noisy = frame * np.random.default_rng(0).uniform(0.05, 1, frame.shape)
        assert read_regions(noisy, region)[:1] == (back,)


def test_tile_words_are_all_frames_of_8_by_8_cells_with_the_fence():
    words, reached, position = tile_words(), set(), 0
    while position < 1 << number_bits(8, 8):                                  # interval after interval, none left out
        frame = blank(8, 8)
        interval = fill_regions(frame, [(0, 0, 8, 8)], position)
        assert interval.low == position
        reached.add(frame.tobytes())
        position += interval.size
    assert reached == {word.tobytes() for word in words} and len(words) == len(reached) == 12847
    fence = np.ones((8, 8), bool)
    fence[1:, 1:] = False
    assert all(np.array_equal(word.reshape(8, 8)[fence] < 0, np.concatenate(
        [fence_line(8), fence_line(8)[1:]])) for word in words[::500])


def test_tiles_split_join_and_have_numbers():
    rng, words = np.random.default_rng(0), tile_words()
    numbers = rng.integers(0, len(words), (5, 6))
    frames = join_tiles(words[numbers], 16, 24)
    assert frames.shape == (5, 16, 24) and all(map(is_perturbation_proof, frames))
    assert np.array_equal(frames[2, 8:16, 16:24].ravel(), words[numbers[2, 5]])
    assert np.array_equal(split_tiles(frames), words[numbers])
    assert np.array_equal(tile_numbers(split_tiles(frames)), numbers)
    frames[0, 3, 3] *= -1
    assert tile_numbers(split_tiles(frames))[0, 0] == -1


@pytest.mark.parametrize("height, width", [(16, 16), (16, 128), (128, 24), (64, 64), (40, 48)])
def test_any_split_into_meaning_and_words_is_proof(height, width):
    rng = np.random.default_rng(0)
    for rows in range(height // 8 + 1):
        tiles = tile_words()[rng.integers(0, len(tile_words()), height * width // 64)]
        frame, regions = join_tiles(tiles, height, width), word_regions(height, width, rows)
        fill_regions(frame, regions, int.from_bytes(rng.bytes(number_bits(height, width) // 8 - 1), "big"))
        assert is_perturbation_proof(frame)
        cells = sum(h * w for _, _, h, w in regions)
        assert cells == 8 * rows * width
        assert meaning_count(height, width, rows) == max(0, (height * width - cells) // 64 - 1)
        after = WheelerMemoryCPU(width, height).run_dynamics(add_noise(frame, 0.9, rng)).final_frame
        assert np.array_equal(after < 0, frame < 0)


def test_frames_are_fixed_points_of_both_rules_and_come_back():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        rows = seed % 9
        frame = join_tiles(tile_words()[rng.integers(0, len(tile_words()), 64)], 64, 64)
        fill_regions(frame, word_regions(64, 64, rows), int.from_bytes(rng.bytes(number_bits(64, 64) // 8 - 1), "big"))
        for rule, ticks in (("v0.2", 1), ("v0.3", 3)):
            dynamics = WheelerMemoryCPU(64, 64, rule=rule)
            kept, back = dynamics.run_dynamics(frame), dynamics.run_dynamics(add_noise(frame, 0.9, rng))
            assert (kept.state, kept.ticks) == ("CONVERGED", ticks) and np.array_equal(kept.final_frame, frame)
            assert back.state == "CONVERGED" and np.array_equal(back.final_frame < 0, frame < 0)


def rows_that_may_follow(above: np.ndarray, barred: np.ndarray, may_need: np.ndarray):
    """All rows (W,) bool, True for -1, that may stand under a row of these statuses, and their needy cells."""
    width = len(above)
    for bits in range(1 << width - 1):
        row = np.array([0, *(bits >> k & 1 for k in range(width - 1))], bool)
        beside = np.zeros(width, bool)
        beside[1:] |= row[:-1]
        beside[:-1] |= row[1:]
        needy = ~(row | beside | barred | (above == OCCUPIED))
        needy[0] = False                                                      # the fence needs nothing
        free = not (row & (beside | barred | (above == OCCUPIED))).any() and row[1:][above[1:] == NEEDY].all()
        if free and not (needy & ~may_need).any() and not (needy[1:] & needy[:-1]).any():
            yield row, needy


def test_a_free_row_is_the_one_that_agrees_best():
    rng, choices = np.random.default_rng(0), 0
    for _ in range(40):
        above, barred, may_need = rng.choice([OCCUPIED, DOMINATED, DOMINATED, NEEDY], 10), rng.random(10) < 0.2, \
            rng.random(10) < 0.7
        above[1:][(above[1:] == NEEDY) & ((above[:-1] == NEEDY) | barred[1:])] = DOMINATED        # never so in a walk
        above[0] = DOMINATED
        field, below = rng.integers(-9, 10, (2, 10))
        found, room = np.zeros(10, bool), np.empty((10, 4), np.int64)
        _agreeing(above, barred, may_need, field, below, room, found)
        agrees = {row.tobytes(): np.where(row, -field, field)[1:].sum() - below[needy].sum()
                  for row, needy in rows_that_may_follow(above, barred, may_need)}
        assert agrees[found.tobytes()] == max(agrees.values())
        choices += len(agrees) - 1
    assert choices > 100


@pytest.mark.parametrize("height, width, spent", [(16, 16, 16), (32, 64, 100), (32, 64, 700), (24, 40, 0)])
def test_free_rows_say_the_number_and_agree_with_the_field(height, width, spent):
    rng, field = random.Random(spent), np.random.default_rng(0).integers(-20, 21, (height, width))
    bits, region, gains = number_bits(height, width), [(0, 0, height, width)], []
    for _ in range(5):
        size = rng.randrange(1 << bits - spent - 1, 1 << bits - spent)
        enough = Interval(bits, rng.randrange((1 << bits) - size), size)
        number, frame, plain = enough.low + size // 4 + rng.randrange(size // 2), *blank(2, height * width)
        frame, plain = frame.reshape(height, width), plain.reshape(height, width)
        said, without = fill_regions(frame, region, number, enough, field), fill_regions(plain, region, number)
        assert enough.holds(said) == enough.holds(without) == (spent < 0.3 * frame.size)
        assert is_perturbation_proof(frame)
        assert read_regions(frame, region)[1:] == (said, 0)
        gains.append(((frame - plain) * field)[2 * height // 3 :].sum())
        kept = max(1, int(spent / 0.4 / width))                               # rows that hold less than the number
        assert np.array_equal(frame[:kept], plain[:kept])
    assert min(gains) > 0 if spent < 400 else not any(gains)


def test_the_field_of_ngrams():
    def fmix(x):
        x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
        x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
        return x ^ x >> 16

    def run(ids):
        return fmix((31 * run(ids[:-1]) + ids[-1] + 1) % 2**32) if ids else 0

    ids = [7, 8, 7, 8, 7, 9999]
    runs = {tuple(ids[k : k + n]) for n in (1, 2, 3) for k in range(len(ids) - n + 1)}
    assert len(runs) == 9
    field = ngram_field(ids, 16, 24)
    for cell in (0, 1, 31, 32, 100, 383):
        bits = [fmix(run(one) ^ fmix(cell // 32 + 1)) >> 31 - cell % 32 & 1 for one in runs]
        assert field.ravel()[cell] == len(bits) - 2 * sum(bits)
    assert field.shape == (16, 24) and np.abs(field).max() <= 9
    assert not ngram_field([], 16, 16).any() and ngram_field([5], 16, 16).std() > 0.9


def test_free_rows_of_texts_with_common_words_are_alike(model):
    code = FrameCode(model, 64, 64)
    texts = ["The fox ran home. The fox ran", "The fox ran home.", "A bird sat"]
    words = [one.frame[one.frame.shape[0] // 2 :].ravel() for one in code.write_texts(texts)]
    near, far, other = (np.corrcoef(words)[k] for k in ((0, 1), (0, 2), (1, 2)))
    assert near > max(far, other) + 0.1


def test_how_much_rows_hold():
    assert 1230 < frame_bits(64, 64) < 1331 and 120 < words_bits(64, 64, 1) < 170 and words_bits(64, 64, 0) == 0
    assert all(words_bits(32, 32, rows) < words_bits(32, 32, rows + 1) for rows in range(4))


def test_damage_is_counted():
    frame, region = blank(16, 16), [(0, 0, 16, 16)]
    fill_regions(frame, region, random.Random(2).getrandbits(number_bits(16, 16)))
    assert read_regions(frame, region)[2] == 0
    wrong = frame.copy()
    wrong[0, 0] *= -1
    assert read_regions(wrong, region)[2] == 1                                # the fence itself
    i, j = np.argwhere(frame[2:, 2:] == -1)[0] + 2
    wrong = frame.copy()
    wrong[i - 1, j] = -1                                                      # two -1 cells adjacent
    assert read_regions(wrong, region)[2] > 0


@pytest.mark.parametrize("height, width, name", [(8, 16, "height = 8"), (16, 20, "width = 20"), (136, 64, "height")])
def test_bad_sides(model, height, width, name):
    with pytest.raises(ValueError, match=f"{name}.*multiples of 8 in 16 .. 128"):
        FrameCode(model, height, width)


def test_bad_numbers():
    for number in (-1, 1 << number_bits(8, 8)):
        with pytest.raises(ValueError, match="number"):
            fill_regions(blank(8, 8), [(0, 0, 8, 8)], number)


def test_intervals_narrow_without_gaps():
    """Parts of an interval lie side by side, in the sizes of their shares, whatever was narrowed before."""
    rng = np.random.default_rng(0)
    for total in (11, 2**16, 2**24, 2**38 + 7):
        before = [(5, 9, 13), (2**37, 2**37 + 1, 2**38)][: rng.integers(3)]
        cuts = np.unique(rng.integers(1, total, 5))
        edges = [0, *cuts.tolist(), total]
        whole = encode(np.array(before, dtype=np.int64).reshape(-1, 3), 512)
        parts = [encode(np.array([*before, (start, end, total)]), 512)
                 for start, end in zip(edges, edges[1:], strict=False)]
        assert parts[0].low == whole.low and parts[-1].low + parts[-1].size == whole.low + whole.size
        assert all(a.low + a.size == b.low for a, b in zip(parts, parts[1:], strict=False))
        for part, start, end in zip(parts, edges, edges[1:], strict=False):
            assert part.spent() - whole.spent() == pytest.approx(math.log2(total / (end - start)), abs=0.002)


def test_an_interval_of_many_choices_is_that_of_exact_fractions():
    """Carries through long runs of digits included: the last of many shares adds to a low end near the next digit."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        totals = rng.integers(2, 2**26, 60)
        starts = np.where(rng.random(60) < 0.4, totals - 1, rng.integers(0, totals))   # the last share: all ones
        charges = np.stack([starts, np.minimum(totals, starts + 1 + rng.integers(0, totals)), totals], 1)
        interval, low, size = encode(charges, 2304), Fraction(0), Fraction(1)
        for start, end, total in charges.tolist():
            low, size = low + size * Fraction(start, total), size * Fraction(end - start, total)
        cost = -math.log2(size)
        # The last share has what rounding leaves over, which makes a tiny one cheaper, and no other dearer.
        assert interval.size and interval.spent() < cost + 0.01
        assert abs(interval.low - low * 2**2304) < 2 ** (2304 - 20)
        assert agreement(interval.low, charges, 2304) == agreement(interval.low + interval.size - 1, charges,
                                                                   2304) == len(charges)
        assert agreement(interval.low + interval.size, charges, 2304) < len(charges) or cost < 1
    assert encode(np.array([[1, 2, 2**30]] * 40), 512).size == 0             # more than can be held


def charges_of(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Logits (T, V) and tokens (T,) -> (T, 3) int64: start, end and total of each token's frequencies."""
    rows = map(frequencies_of, logits.astype(np.float32))
    return np.array([(*charge(row, token), row.sum()) for row, token in zip(rows, ids, strict=True)])


def frequencies_of(logits: np.ndarray) -> np.ndarray:
    """Logits (V,) float32 -> (V,) int32."""
    out = np.empty(len(logits), np.int32)
    assert frequencies(logits, frequency_table(), out) == out.sum(dtype=np.int64)
    return out


def test_numbers_are_read_as_the_tokens_that_were_written():
    rng = np.random.default_rng(2)
    logits, ids = (rng.normal(size=(6, 70, 300)) * 4).astype(np.float32), rng.integers(0, 300, (6, 70))
    said = lambda coder, digits, row: read(coder, digits, frequencies_of(row), frequencies_of(row).sum())
    for of_text, wanted in zip(logits, ids, strict=True):
        written = encode(charges_of(of_text, wanted), 2304)
        digits = digits_of(written.low + written.size // 3, 2304)
        coder = new_coder(digits)
        assert [said(coder, digits, row) for row in of_text] == wanted.tolist()
        assert spent(coder) == pytest.approx(written.spent(), abs=1e-9)
    short = digits_of(0, 64)                                                  # a number of four tokens' bits
    coder = new_coder(short)
    assert -1 in [said(coder, short, row) for row in logits[0]]


# ---- texts ----


def test_frequencies_follow_the_probabilities():
    logits = np.random.default_rng(0).normal(size=(3, 50)) * 3
    every = np.stack([charges_of(logits, np.full(3, token)) for token in range(50)], 1)        # (3, 50, 3)
    assert every.dtype == np.int64 and (every[..., 0] == np.pad(every[:, :-1, 1], ((0, 0), (1, 0)))).all()
    assert (every[..., 1] > every[..., 0]).all() and (every[:, -1:, 1] == every[..., 2]).all()
    wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose((every[..., 1] - every[..., 0]) / every[..., 2], wanted, rtol=0.02, atol=1e-6)
    far, = charges_of(np.array([[0.0, -1000.0, -5.0]]), np.array([1]))
    assert far[1] - far[0] == 1                                               # nothing is impossible


@pytest.mark.parametrize("tiles", [0, 7, 15])
def test_cost_is_the_loss_of_the_decoder_that_reads_the_tiles(model, tiles):
    ids, model = ids_of(model, TEXTS[0]), copy.deepcopy(model)
    with torch.no_grad():
        model.decoder.norm_out.weight.mul_(0.1)  # no token below 2^-24, where costs are capped
        logits, _ = model(torch.tensor([ids]), meaning_tiles=torch.tensor([tiles]))
    bits = naive.mixed_bits(ids, logits[0].double().softmax(-1).tolist(), primer_ids(model.tokenizer))
    code = FrameCode(model)
    charges, = code.charges([ids], list(code.meaning_tiles([ids])[:, :tiles]))
    assert cost_of(charges) == pytest.approx(bits + 16, abs=0.5)
    assert code.interval(ids, charges).spent() == pytest.approx(cost_of(charges), abs=1e-3)


def test_texts_come_back_from_their_frames(model):
    code = FrameCode(model)
    texts = [ids_of(model, text) for text in (TEXTS[1], TEXTS[3], "The fox ran home.")]
    written = code.write(texts)
    frames = frames_of(written)
    assert [one.fits for one in written] == [True] * 3 and all(map(is_perturbation_proof, frames))
    readings = code.read(frames)
    assert [(r.ids, r.exact, r.foreign) for r in readings] == [(ids, True, False) for ids in texts]
    assert [r.meaning_tiles for r in readings] == [meaning_count(32, 32, one.rows) for one in written]
    assert [r.bits for r in readings] == pytest.approx([one.cost for one in written], abs=1e-4)
    assert code.read(frames[1:2]) == readings[1:2]                            # the batch makes no difference
    assert np.array_equal(frames_of(FrameCode(model).write(texts)), frames)
    for one in written:                                                       # the fewest rows that do
        assert one.cost <= words_bits(32, 32, one.rows)
        if one.rows > code.least_rows:
            fewer, = code.charges([one.ids], [code.meaning_tiles([one.ids])[0, : meaning_count(32, 32, one.rows - 1)]])
            assert cost_of(fewer) > words_bits(32, 32, one.rows - 1) - 4 or 0.94 * one.cost > words_bits(
                32, 32, one.rows - 1) - 4


@pytest.mark.parametrize("height, width", [(16, 16), (24, 64), (128, 16)])
def test_frames_of_other_sides(model, height, width):
    code = FrameCode(model, height, width)
    written = code.write([ids_of(model, "A"), ids_of(model, "The fox ran home.")])
    assert all(is_perturbation_proof(one.frame) for one in written)
    for one, reading in zip(written, code.read(frames_of(written)), strict=True):
        assert reading.exact == one.fits and (reading.ids == one.ids or not one.fits)
    assert written[0].fits or height == width


def test_a_damaged_frame_gives_no_wrong_words(model):
    code = FrameCode(model)
    one, = code.write([ids_of(model, "The fox ran home.")])
    for cell in ((0, 0), (2, 3), (5, 20), (30, 11), (31, 31)):
        damaged = one.frame.copy()
        damaged[cell] *= -1
        reading, = code.read(damaged[None])
        assert reading.ids == one.ids if reading.exact else reading.bits == 0
        assert code.recovers(one, damaged)[0] == reading.exact
    assert code.recovers(one, one.frame) == (True, pytest.approx(one.cost - 16, abs=1e-6))
    reading, = code.read(np.ones_like(one.frame)[None])
    assert not reading.exact and not reading.foreign


def test_a_lost_header_costs_nothing_else(model):
    code = FrameCode(model)
    one, = code.write([ids_of(model, "The fox ran home.")])
    damaged = one.frame.copy()
    damaged[2:6, 2:6] = 0                                                     # in the header's tile
    reading, = code.read(damaged[None])
    assert reading.exact and reading.ids == one.ids


def test_the_gist_comes_from_what_is_left(model):
    code = FrameCode(model, 64, 64)
    one, = code.write([ids_of(model, "The fox ran home.")])
    damaged = one.frame.copy()
    damaged[-8 * one.rows :] = 0
    reading, = code.read(damaged[None])
    assert not reading.exact and reading.meaning_tiles == pytest.approx(len(one.tiles)) and reading.bits == 0
    damaged[16:32] = 0                                                        # two rows of eight tiles
    assert code.read(damaged[None])[0].meaning_tiles == pytest.approx(len(one.tiles) - 16)
    flipped = np.where(np.random.default_rng(0).random(one.frame.shape) < 0.1, -one.frame, one.frame)
    reading, = code.read(flipped[None])
    assert not reading.exact and reading.meaning_tiles > 20                   # the header is gone: half of the rows
    noise, = code.read(np.random.default_rng(0).choice([-1.0, 1.0], (1, 64, 64)))
    assert not noise.exact and noise.meaning_tiles == 0 and not noise.ids


def test_what_does_not_fit_is_a_gist(model):
    code = FrameCode(model, 16, 16)
    one, = code.write([ids_of(model, TEXTS[2])])
    assert not one.fits and one.rows == 0 and len(one.tiles) == 3 and is_perturbation_proof(one.frame)
    reading, = code.read(one.frame[None])
    assert not reading.exact and reading.bits == 0 and reading.meaning_tiles == pytest.approx(3)
    random_ids = torch.randint(3, 300, (63,), generator=torch.Generator().manual_seed(0)).tolist() + [1]
    assert not FrameCode(model).write([random_ids])[0].fits                   # no language model can help here


def test_frames_of_other_weights_are_named(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.decoder.norm_out.weight.add_(0.01)
    frame = model.encode_frame("The fox ran home.")
    reading, = other.read_frame(frame)
    assert reading.foreign and not reading.exact and reading.text is None
    with pytest.raises(ValueError, match="frame 0: its header names other weights"):
        other.decode_frame(frame)


def test_wrong_frames(model):
    with pytest.raises(ValueError, match="wanted"):
        FrameCode(model).read(np.zeros((1, 16, 16)))
    with pytest.raises(ValueError, match="NaN"):
        model.read_frame(torch.full((32, 32), torch.nan))
    for value in (1.0, -1.0, 0.0, 0.5):
        with pytest.raises(ValueError, match="frame 0 says nothing: all its cells are equal or have one sign"):
            model.read_frame(torch.full((1, 32, 32), value))


# ---- redundant frames ----


def test_tiles_of_redundant_frames_are_far_apart():
    book = tile_words()[tile_codebook()]
    assert book.shape == (256, 64)
    apart = (64 - book @ book.T) / 2 + 64 * np.eye(256)
    assert apart.min() >= 8
    for seed in range(3):
        payload = random.Random(seed).randbytes(20)
        frame = frame_from_bytes(payload, b"x", 32, 64)
        assert frame.shape == (32, 64) and is_perturbation_proof(frame)
        assert bytes_from_frame(frame, [b"y", b"x"]) == (payload, b"x") and bytes_from_frame(frame, [b"y"]) is None


def test_bytes_come_back_through_flips_and_erasures():
    rng = np.random.default_rng(0)
    for length, flips, erased in ((20, 0.08, 0.3), (40, 0.03, 0.1), (59, 0.0, 0.0)):
        payload = rng.bytes(length)
        frame = frame_from_bytes(payload, b"", 64, 64)
        assert bytes_from_frame(np.where(rng.random(frame.shape) < flips, -frame, frame), [b""]) == (payload, b"")
        hole = frame.copy()
        side = round(64 * erased**0.5)
        hole[5 : 5 + side, 9 : 9 + side] = 0
        assert bytes_from_frame(hole, [b""]) == (payload, b"")
    assert frame_from_bytes(bytes(60), b"", 64, 64) is None


def test_an_erased_area_is_known_again_after_the_dynamics():
    frame = frame_from_bytes(np.random.default_rng(0).bytes(20), b"", 64, 64)
    assert np.array_equal(plausible(frame), frame)
    hole = frame.copy()
    hole[8:48, 8:48] = 0
    after = WheelerMemoryCPU(64, 64).run_dynamics(hole).final_frame
    assert (plausible(after)[10:46, 10:46] == 0).mean() > 0.9
    assert bytes_from_frame(plausible(after), [b""]) == (np.random.default_rng(0).bytes(20), b"")


@pytest.mark.parametrize("side", [12, 16, 36, 136])                           # no whole tiles, too few, none, too many
def test_sizes_without_redundant_frames_are_named(side):
    for function in (lambda: frame_from_bytes(b"a", b"", side, side), lambda: tile_count(side, side)):
        with pytest.raises(ValueError, match=f"6 to 258 tiles of 8 x 8 cells, {side} x {side} cells are not"):
            function()


def test_frames_without_bytes_are_noticed():
    rng = np.random.default_rng(0)
    assert bytes_from_frame(rng.choice([-1.0, 1.0], (64, 64)), [b""]) is None
    assert bytes_from_frame(np.zeros((64, 64)), [b""]) is None and bytes_from_frame(np.ones((12, 12)), [b""]) is None


def test_redundant_texts(model):
    code = FrameCode(model, 64, 64)
    texts = [ids_of(model, text) for text in ("", "A red hat", "The fox ran home. " * 2)]
    written = code.write(texts, redundant=True)
    frames = frames_of(written)
    assert [one.fits for one in written] == [True] * 3 and all(map(is_perturbation_proof, frames))
    assert len(written[0].tiles) == 7                                         # short texts spare some for meaning
    damaged = np.where(np.random.default_rng(0).random(frames.shape) < 0.01, -frames, frames)
    for given in (frames, damaged):
        assert [(r.ids, r.exact) for r in code.read(given)] == [(ids, True) for ids in texts]
    other = FrameCode(model, 64, 64)
    other.fingerprint += 1
    foreign = frames.copy()                                                   # damage that looks like another's header
    foreign[:, :8, :8] = other.write(texts[:1])[0].frame[:8, :8]
    assert [code._header(tile_numbers(foreign[0, :8, :8].ravel())) is None, code.look(foreign[0])[0]] == [False, False]
    assert [(r.ids, r.exact) for r in code.read(foreign)] == [(ids, True) for ids in texts]
    random_ids = torch.randint(3, 300, (60,), generator=torch.Generator().manual_seed(0)).tolist() + [1]
    one, = code.write([random_ids], redundant=True)
    assert not one.fits and not code.read(one.frame[None])[0].exact


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


def test_the_grid_and_the_text_have_one_frame(model):
    frame = model.encode_frame("A fox")
    with torch.no_grad():
        grid = model.set_grid_from_image(frame)
    assert torch.equal(grid, model.encode("A fox"))
    text = model.decode(grid)                                                 # the grid of a scrambled model says this
    assert torch.equal(model.get_grid_as_image(grid), model.encode_frame(text))


def test_what_the_model_says_of_damage_and_length(model):
    frame = model.encode_frame("The fox ran home.")
    frame[0, 16:] = 0
    with pytest.warns(UserWarning, match="frame 0: no words to be trusted .* the text is a gist"):
        model.decode_frame(frame)
    texts = ["A hat", "zq vjx wkb qpf xzt ghl jmw vcq bxd kfz"]
    said = r"text 1 costs \d+ bits .* a frame of 32 x 32 holds about 2\d\d"
    with pytest.raises(ValueError, match=said):
        model.encode_frame(texts, strict=True)
    with pytest.warns(UserWarning, match=said + ": the frame holds its gist"):
        frames = model.encode_frame(texts)
    assert [reading.exact for reading in model.read_frame(frames)] == [True, False]
    for bad in (dict(noise=-1), dict(ticks=0), dict(noise=math.nan), dict(noise=math.inf), dict(noise="x")):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is {next(iter(bad.values()))!r}; it must be"):
            model.survive("A hat", **bad)
    with pytest.raises(ValueError, match="text is list; it must be one str"):
        model.survive(["A hat", "A fox"])
    for bad in ("x", None, [["a"]]):
        for call in (model.decode_frame, model.read_frame):
            with pytest.raises(ValueError, match=rf"frames must be numbers .*, not {type(bad).__name__} "):
                call(bad)
    with pytest.raises(ValueError, match="NaN"):
        model.decode_frame(torch.full((32, 32), torch.nan))


def test_a_reading_says_in_words_what_it_is(model):
    frame = model.encode_frame("The fox ran home.")[0]
    damaged, noise = frame.clone(), torch.tensor(np.random.default_rng(0).choice([-1.0, 1.0], frame.shape))
    damaged[16:] = 0
    readings = model.read_frame(torch.stack([frame, damaged, noise]))
    assert [reading.kind for reading in readings] == ["words", "gist", "nothing"]
    assert all(type(reading.meaning_tiles) is float for reading in readings) and "kind='nothing'" in repr(readings[2])
    assert (readings[2].text, readings[2].exact, readings[2].meaning_tiles) == ("", False, 0)
    with pytest.warns(UserWarning) as caught:
        assert model.decode_frame(torch.stack([noise, frame, noise])) == ["", "The fox ran home.", ""]
    assert [str(one.message)[:53] for one in caught] == ["frame 0, 2: nothing can be read, neither words nor me"]
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.decoder.norm_out.weight.mul_(1.5)
    assert other.read_frame(frame)[0].kind == "foreign"


# ---- redundant frames against erasures ----


def test_symbols_come_back_through_erasures():
    rng = np.random.default_rng(0)
    for length, area, flips in ((5, 0.7, 0), (14, 0.5, 0), (40, 0.15, 0), (63, 0.0, 0), (10, 0.0, 0.003)):
        symbols = rng.integers(0, 8192, length).tolist()
        frame = frame_from_symbols(symbols, 64, 64)
        assert is_perturbation_proof(frame)
        side, hurt = round(64 * area**0.5), np.where(rng.random(frame.shape) < flips, -frame, frame)
        assert flips == 0 or (hurt != frame).sum() > 5
        hurt[20 : 20 + side, :side] = 0
        after = WheelerMemoryCPU(64, 64).run_dynamics(hurt).final_frame
        for seen in (hurt, np.roll(hurt, 0), plausible(np.rint(after * 8) / 8)):
            assert symbols in list(symbols_from_frame(seen)), (length, area, flips)
    assert frame_from_symbols([1] * 64, 64, 64) is None and frame_from_symbols([], 64, 64) is None


def test_tiles_that_are_nearly_whole_are_completed():
    symbols = list(range(100, 160))
    frame = frame_from_symbols(symbols, 64, 64)                               # bears three lost tiles
    hurt = frame.copy()
    hurt[8:16, :32] = 0                                                       # four are lost
    assert symbols not in list(symbols_from_frame(hurt))
    tile, rows, ways = frame[8:16, :8].copy(), 0, 1
    while ways < 2:                                                           # of one is left what several symbols have
        rows += 1
        tile[:rows] = 0
        ways = int(_told_symbols(tile.reshape(1, 64))[1].sum())
    hurt[8:16, :8] = tile
    found = list(symbols_from_frame(hurt))
    assert ways < 64 and symbols in found and len(found) == ways              # nothing is left to choose by
    hurt[16:24, :8] = 0                                                       # one more lost than it bears
    assert symbols not in list(symbols_from_frame(hurt))


@pytest.mark.parametrize("known", [1, 14, 60])
def test_the_other_symbols_of_a_code_word(known):
    rng = np.random.default_rng(known)
    code, data = RSCodec(63 - known, nsize=63, c_exp=13, prim=0x201B), rng.integers(0, 8192, known).tolist()
    word, places = np.array(code.encode(data)), np.sort(rng.permutation(63)[:known])
    matrix = unknown_from_known(63, places)
    found = np.bitwise_xor.reduce(times(matrix, word[places]), axis=1)
    assert np.array_equal(found, np.delete(word, places))


def test_a_third_of_a_frame_says_more_than_its_whole_tiles():
    """A square of two thirds of the area erased leaves 14 whole tiles at most, and 16 symbols are told; also after the
    dynamics have filled the area."""
    rng, found, whole = np.random.default_rng(0), [], []
    for _ in range(12):
        symbols, (i, j) = rng.integers(0, 8192, 16).tolist(), rng.integers(0, 64, 2)
        hurt = frame_from_symbols(symbols, 64, 64)
        hurt[np.ix_(np.arange(i, i + 52) % 64, np.arange(j, j + 52) % 64)] = 0
        whole.append(sum(np.abs(tile).all() for tile in split_tiles(hurt)))
        after = np.rint(WheelerMemoryCPU(64, 64).run_dynamics(hurt).final_frame * 8) / 8
        found.append([symbols in list(symbols_from_frame(seen))
                      for seen in (hurt, without_edges(after, plausible(after)))])
    assert max(whole) <= 15 and np.mean(found, axis=0).min() >= 0.75


def test_edges_of_an_erased_area_are_not_believed_after_the_dynamics():
    frame = frame_from_symbols(list(range(9)), 64, 64)
    hurt = frame.copy()
    hurt[10:50, 13:40] = 0
    after = np.rint(WheelerMemoryCPU(64, 64).run_dynamics(hurt).final_frame * 8) / 8
    clean = plausible(after)
    seen = without_edges(after, clean)
    assert (seen * frame >= 0).all() and (clean * frame < 0).any()             # no cell is wrong any more
    assert (seen != 0).mean() > 0.65
    assert np.array_equal(without_edges(hurt, plausible(hurt)), hurt)          # nothing was filled here


@pytest.mark.parametrize("noise", [0.01, 0.5, 0.8])
def test_noise_on_an_erased_area_is_not_taken_for_cells(model, noise):
    code, rng = FrameCode(model, 64, 64), np.random.default_rng(0)
    one, = code.write([ids_of(model, "The fox")], "erasures")
    hurt = one.frame.copy()
    hurt[20:60, :40] = 0
    noisy = add_noise(hurt, noise, rng)
    after = WheelerMemoryCPU(64, 64).run_dynamics(noisy).final_frame
    assert [reading.exact for reading in code.read(np.stack([hurt, noisy, after]))] == [True] * 3


def test_frames_of_other_kinds_say_no_symbols(model):
    code = FrameCode(model, 64, 64)
    plain, short = code.write([ids_of(model, TEXTS[2]), ids_of(model, TEXTS[3])])
    flips, = code.write([ids_of(model, TEXTS[3])], True)
    noise = np.where(np.random.default_rng(0).random((64, 64)) < 0.5, -1, 1)
    for frame in (plain.frame, short.frame, noise, np.zeros((64, 64)), np.zeros((8, 16))):
        assert not list(symbols_from_frame(frame))
    assert code.read(flips.frame[None])[0].exact


def test_a_text_against_erasures(model):
    ids = ids_of(model, "The fox")
    for side in (32, 64):
        code = FrameCode(model, side, side)
        one, = code.write([ids], "erasures")
        assert one.fits and len(one.tiles) == 0 and is_perturbation_proof(one.frame)
        hurt = one.frame.copy()
        hurt[:, : side // 4] = 0
        after = WheelerMemoryCPU(side, side).run_dynamics(hurt).final_frame
        for frame in (one.frame, hurt, after):
            reading, = code.read(frame[None])
            assert (reading.exact, reading.ids) == (True, ids) and code.recovers(one, frame)[0]
    one, = code.write([ids_of(model, TEXTS[2])], "erasures")
    one.frame[:56] = 0
    reading, = code.read(one.frame[None])
    assert (reading.exact, reading.kind, reading.text) == (False, "nothing", "")              # symbols are no meaning
    with pytest.raises(ValueError, match="redundant is 'parity'; it must be True, False, 'flips' or 'erasures'"):
        code.write([ids], "parity")
    with pytest.warns(UserWarning, match="holds about 195: the frame holds its gist"):
        model.encode_frame(TEXTS[2] * 4, redundant="erasures")
    assert frame_bits(64, 64, "erasures") == 13 * 63


def test_erasures_of_other_weights_are_not_read(model):
    code, other = FrameCode(model), FrameCode(copy.deepcopy(model))
    for layer in other.decoder.layers:
        layer.norm_mlp = layer.norm_mlp * 0.5
    one, = other.write([ids_of(model, "The fox")], "erasures")
    assert not code.read(one.frame[None])[0].exact
