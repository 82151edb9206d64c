"""Texts of any length as films of frames: lossless, in any order, with gaps that are marked."""

import warnings

import numpy as np
import pytest
import torch

from models import WheelerTextAutoencoder
from wheeler.frame.code import FrameCode
from wheeler.frame.contents import Part
from wheeler.frame.film import FILM, film_of, pieces, read_film, write_film
from wheeler.model.config import WheelerConfig
from wheeler.model.tokenizer import HARD_TEXTS, train_tokenizer
from wheeler_cpu import WheelerMemoryCPU, add_noise

STORY = "Once upon a time there was a rabbit. The rabbit ran home.\n\nThe fox said: “Where is Zoë?” "


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tokenizer = train_tokenizer([STORY] * 4, 320)
    return WheelerTextAutoencoder(WheelerConfig(
        vocab_size=len(tokenizer), d_model=32, num_heads=2, encoder_layers=1, grid_layers=1, decoder_layers=1,
        grid_size=32, patch_size=8, max_seq_len=32, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id), tokenizer).eval()


@pytest.fixture(scope="module")
def code(model):
    return FrameCode(model)


@pytest.fixture(scope="module")
def film(code):
    return np.stack([one.frame for one in write_film(code, STORY * 3)])


def test_a_part_is_read_as_it_was_said(code):
    from wheeler.frame.arithmetic import digits_of, encode, new_coder

    for part in (Part(0, 0, 1), Part(FILM - 1, 4, 5), Part(77, 999_999, 1_000_000)):
        interval = encode(part.choices(), 512)
        digits = digits_of(interval.low + interval.size // 2, 512)
        assert Part.read(new_coder(digits), digits) == part
        assert part.bits == pytest.approx(interval.spent(), abs=1e-6)


@pytest.mark.parametrize("text", [STORY * 3, "x" * 300, "\n" * 90, "\U0001f409" * 60, "".join(HARD_TEXTS),
                                  "a" + " " * 99])
def test_any_text_comes_back_character_for_character(code, text):
    written = write_film(code, text)
    assert len(written) > 1 and all(one.fits and one.rows < 4 for one in written)
    assert [one.part for one in written] == [Part(film_of(text), k, len(written)) for k in range(len(written))]
    frames = np.stack([one.frame for one in written])
    rng = np.random.default_rng(0)
    after = WheelerMemoryCPU(32, 32).run_dynamics(add_noise(frames, 0.9, rng)).final_frame
    (found,), lost = read_film(code, after[rng.permutation(len(after))])
    assert (found.text, found.exact, found.count, found.missing, lost) == (text, True, len(frames), [], 0)
    for one, frame in zip(written, frames, strict=True):
        assert code.recovers(one, frame)[0]


def test_pieces_end_where_a_reader_would_end_them(code):
    found = list(pieces(code, STORY * 3))
    assert "".join(found) == STORY * 3
    assert sum(piece.endswith((" ", "\n")) for piece in found[:-1]) == len(found) - 1


def test_a_text_that_fits_is_an_ordinary_frame(model, code):
    for text in ("A", ""):
        assert torch.equal(model.encode_frames(text), model.encode_frame(text))
        assert model.decode_frames(model.encode_frames(text)) == text
    assert write_film(code, "A")[0].part is None


def test_missing_frames_leave_a_mark_and_the_rest(model, code, film):
    found = list(pieces(code, STORY * 3))
    assert len(found) > 5
    kept = np.delete(film, [1, 3, 4], 0)
    with pytest.warns(UserWarning, match=f"of {len(film)} frames these are missing or damaged: 2, 4 to 5$"):
        text = model.decode_frames(torch.from_numpy(np.concatenate([kept[::-1], kept])))
    marked = [f" [frame 2 of {len(film)} is missing] ", f" [frames 4 to 5 of {len(film)} are missing] "]
    assert text == "".join([found[0], marked[0], found[2], marked[1], *found[5:]])


def test_a_damaged_frame_is_told_from_a_missing_one(code, film):
    damaged = film.copy()
    damaged[2, 16:24] *= -1
    (found,), lost = read_film(code, damaged)
    assert not found.exact and found.missing == [(3, 3)] and lost == 0
    assert f"frame 3 of {len(film)} is" in found.text
    assert read_film(code, np.concatenate([damaged, film[2:3]]))[0][0].exact     # also there whole


def test_films_that_are_mixed_up_come_apart(model, code, film):
    other = STORY[::-1] * 2
    frames = np.concatenate([film, model.encode_frames(other).numpy(), model.encode_frame("A fox").numpy()])
    order = np.random.default_rng(1).permutation(len(frames))
    films, lost = read_film(code, frames[order])
    assert sorted(one.text for one in films) == sorted([STORY * 3, other, "A fox"]) and lost == 0
    assert all(one.exact for one in films)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(model.decode_frames(frames[order])) == sorted([STORY * 3, other, "A fox"])


def test_frames_of_two_texts_of_one_checksum_are_not_called_exact(code, film, monkeypatch):
    monkeypatch.setattr("wheeler.frame.film.film_of", lambda text: film_of(STORY * 3))
    other = np.stack([one.frame for one in write_film(code, STORY[::-1] * 3)])
    monkeypatch.undo()
    count = min(len(film), len(other))
    parts = [one.part for one in (code.read(film[:1]) + code.read(other[:1]))]
    assert parts[0].film == parts[1].film
    films, _ = read_film(code, np.concatenate([film[: count // 2], other[count // 2 :]]))
    assert not any(one.exact for one in films)


def test_one_frame_that_names_millions(code):
    ids = code.model.tokenizer("A")["input_ids"]
    one, = code.write([ids], parts=[Part(5, 9_999_999, 1 << 24)])
    (found,), _ = read_film(code, one.frame[None])
    assert found.text.startswith(" [frames 1 to 9999999 of 16777216 are missing] A [frames 10000001 to ")
    assert len(found.text) < 200 and not found.exact


def test_frames_that_cannot_be_read(model, film):
    noise = np.where(np.random.default_rng(0).random((2, 32, 32)) < 0.5, -1, 1).astype(np.float32)
    with pytest.raises(ValueError, match="none of the 2 frames can be read"):
        model.decode_frames(noise)
    with pytest.warns(UserWarning, match="2 frames cannot be read and belong to no film here"):
        assert model.decode_frames(np.concatenate([film, noise])) == STORY * 3
    with pytest.raises(ValueError, match="shape"):
        model.decode_frames(film[:, :16])
    with pytest.raises(ValueError, match="not valid Unicode"):
        model.encode_frames("a\ud800" * 300)


def test_a_text_that_is_too_long_says_how_many_frames_it_takes(model):
    with pytest.warns(UserWarning, match=r"were cut; encode_frames writes one of them into about [567] frames"):
        model.encode_frame(STORY * 3)
    with pytest.raises(ValueError, match=r"encode_frames writes one of them into about"):
        model.encode_frame(["A", STORY * 3], strict=True)
    assert len(model.encode_frames(STORY * 3)) == 6
