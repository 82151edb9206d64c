"""Pictures of frames: drawn, sent in many ways, found again; sheets of several; what is no picture of a frame."""

import io
import random

import numpy as np
import pytest
from conftest import save_tiny_model
from PIL import Image, ImageOps
from PIL.Image import Transpose

import wheeler.measure.pictures as measure
from wheeler.dynamics.pictures import frame_image
from wheeler.dynamics.tiles import join_tiles, tile_codebook, tile_words
from wheeler.frame import pictures
from wheeler.frame.cells import fill_regions, number_bits, word_regions
from wheeler.frame.code import FrameCode
from wheeler.frame.pictures import (
    frames_in,
    grey_of,
    marked_frames,
    one_frame_in,
    opened,
    picture_of,
    read_found,
    sheet_of,
)
from wheeler.measure.metrics import Subject


def written(height=64, width=64, rows=None, seed=0, redundant=False):
    """A frame as a text's looks: random meaning tiles, a random number in `rows` rows of tiles, default half."""
    rng, rows = np.random.default_rng(seed), height // 16 if rows is None else rows
    choice = tile_codebook() if redundant else np.arange(len(tile_words()))
    frame = join_tiles(tile_words()[rng.choice(choice, height * width // 64)], height, width)
    fill_regions(frame, word_regions(height, width, rows), random.Random(seed).getrandbits(number_bits(height, width)))
    return frame


KINDS = {"half words": written(), "mostly words": written(rows=6), "words alone": written(rows=8),
         "meaning alone": written(rows=0), "redundant": written(rows=0, redundant=True)}


def same(found, frame):
    return any(np.array_equal(np.sign(one), frame) for one in found)


# ---- drawing --------------------------------------------------------------------------------------------------------


def test_the_frame_itself_stays_pure_and_its_brightness_is_even():
    frame = np.random.default_rng(0).uniform(-1, 1, (16, 24)).astype(np.float32)
    picture = picture_of(frame, scale=9)
    assert picture.size == (9 * (24 + 18), 9 * (16 + 18))
    pixels = np.asarray(picture.convert("RGB"))
    assert np.array_equal(pixels[81:-81, 81:-81], np.asarray(frame_image(frame, 9).convert("RGB")))
    light = pixels[0, 0]
    assert (pixels[63:81, 63:-63] == light).all() and (pixels[:18] == light).all()             # the quiet zones
    levels = np.asarray(frame_image(np.linspace(-1, 1, 255)[None], 1).convert("L"), np.float32)[0]
    assert np.abs(levels - np.linspace(levels[0], levels[-1], 255)).max() < 1.5
    assert levels[-1] - levels[0] > 210


@pytest.mark.parametrize("call, message", [
    (lambda: picture_of(np.ones((20, 16))), "height = 20"), (lambda: picture_of(np.ones(16)), "two sides"),
    (lambda: picture_of(np.full((16, 16), np.nan)), "NaN"), (lambda: picture_of(np.ones((16, 16)), 7), "scale 7"),
    (lambda: sheet_of([]), "no frame"), (lambda: sheet_of([np.ones((16, 16))], 0), "columns 0"),
    (lambda: sheet_of([np.ones((16, 16)), np.ones((16, 24))]), "the same sides"),
    (lambda: sheet_of([np.ones((64, 64))] * 20), "more than 8 million"),
])
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- one frame ------------------------------------------------------------------------------------------------------


def test_there_are_40_ways():
    assert len(measure.ways()) == 40


@pytest.mark.parametrize("name", measure.ways())
def test_a_picture_arrives(name):
    frame = KINDS["half words"]
    (found,) = one_frame_in(measure.ways()[name](frame), 64, 64)
    assert np.array_equal(np.sign(found), frame)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [*Transpose, None])
def test_the_cells_tell_which_way_up_a_frame_is(kind, way):
    frame = KINDS[kind]
    picture = frame_image(frame, 4).convert("RGB")
    for image in (picture, ImageOps.expand(ImageOps.invert(picture), 30, (0, 0, 0))):
        found = one_frame_in(image if way is None else image.transpose(way), 64, 64)
        assert same(found, frame) and len(found) <= 1 + (kind in ("words alone", "meaning alone"))
        # A frame of words alone looks as well along its diagonal; mirror images are the less likely ones.
        assert same(found[:1], frame) or kind == "meaning alone" or way in (
            Transpose.FLIP_LEFT_RIGHT, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE, Transpose.TRANSVERSE)


@pytest.mark.parametrize("sides", [(16, 16), (16, 128), (128, 64), (24, 48)])
def test_frames_of_other_sides(sides):
    frame = written(*sides)
    marked = picture_of(frame).convert("RGB").rotate(90, expand=True)
    (found,) = marked_frames(measure.scaled(marked, 0.6))                     # the marks tell the sides
    assert np.array_equal(np.sign(found), frame)
    assert same(frames_in(frame_image(frame, 5).convert("RGB").rotate(90, expand=True), *sides), frame)


def test_a_page_around_a_frame_without_marks():
    for scale in (4, 8):
        page = measure.page(frame_image(KINDS["half words"], scale).convert("RGB"))
        assert same(frames_in(page, 64, 64), KINDS["half words"])


@pytest.mark.parametrize("change, error", [
    (lambda p: p, 0.02), (lambda p: p.convert("L"), 0.02), (lambda p: ImageOps.invert(p).rotate(90), 0.02),
    (lambda p: measure.scaled(p, 0.75), 0.1), (lambda p: p.point(lambda v: 60 + v // 2), 0.03),
    (lambda p: measure.sent(p, "JPEG", quality=95), 0.03),
])
def test_soft_values_arrive_where_there_are_marks(change, error):
    """Noise without any structure of a frame: all is told by the marks."""
    frame = np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)
    (found,) = frames_in(change(picture_of(frame).convert("RGB")), 64, 64)
    assert np.abs(found - frame).max() < error


def test_strong_noise_does_not_hide_the_marks():
    noise = np.random.default_rng(0).normal(0, 120, (656, 656))
    pixels = np.asarray(picture_of(KINDS["half words"]).convert("L")) + noise
    (found,) = marked_frames(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    assert (np.sign(found) == KINDS["half words"]).mean() > 0.99


def test_sharp_cells_tell_the_sides_where_the_marks_are_too_coarse():
    """3 pixels a cell, and so dark that the marks look larger than they are: by them the frame has 120 cells a side."""
    frame = written(128, 128)
    small = measure.scaled(picture_of(frame).convert("RGB"), 0.4).point(lambda v: 255 * (v / 255) ** 3)
    (found,) = marked_frames(small)
    assert found.shape == (128, 128) and np.array_equal(np.sign(found), frame)


def test_a_picture_that_is_all_alpha():
    """White everywhere, the dark cells transparent: on white nothing would be seen."""
    grey = picture_of(KINDS["half words"]).convert("L")
    image = Image.new("RGBA", grey.size, (255, 255, 255, 255))
    image.putalpha(grey)
    assert same(frames_in(image, 64, 64), KINDS["half words"])


def test_soft_values_arrive_without_marks():
    rng = np.random.default_rng(0)
    frame = (KINDS["half words"] * rng.uniform(0.1, 1, (64, 64))).astype(np.float32)           # noise of 0.9
    (found,) = frames_in(frame_image(frame, 6), 64, 64)
    assert np.array_equal(np.sign(found), np.sign(frame)) and np.abs(found - frame).mean() < 0.06


# ---- sheets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    lambda p: p, lambda p: measure.sent(p, "JPEG", quality=30), lambda p: measure.scaled(p, 0.5),
    lambda p: ImageOps.invert(p.transpose(Transpose.TRANSPOSE)), lambda p: p.rotate(180), lambda p: measure.page(p),
    lambda p: p.convert("1"),
])
def test_frames_of_a_sheet_come_in_reading_order(change):
    frames = [written(32, 48, seed=i) for i in range(7)]
    found = frames_in(change(sheet_of(frames, columns=3).convert("RGB")), 32, 48)
    assert len(found) == 7 and all(np.array_equal(np.sign(a), b) for a, b in zip(found, frames, strict=True))


def test_a_frame_that_lost_a_mark_does_not_take_its_neighbours():
    frames = [written(32, 32, seed=i) for i in range(4)]
    sheet = sheet_of(frames, columns=2).convert("RGB")
    sheet.paste((255, 246, 220), (8 * 45, 0, 8 * 50, 8 * 8))                  # the first frame's upper right corner
    found = frames_in(sheet, 32, 32)
    assert len(found) == 3 and all(np.array_equal(np.sign(a), b) for a, b in zip(found, frames[1:], strict=True))


# ---- what is no picture of a frame ----------------------------------------------------------------------------------


def test_what_is_no_frame_is_refused():
    rng = np.random.default_rng(0)
    chess = (np.add.outer(np.arange(64), np.arange(64)) % 2 * 255).astype(np.uint8)
    for image in (Image.fromarray(rng.integers(0, 256, (300, 400), dtype=np.uint8)),
                  Image.fromarray(rng.random((256, 256)) < 0.25), Image.fromarray(chess.repeat(8, 0).repeat(8, 1)),
                  measure.page(Image.new("RGB", (300, 300), "grey"))):
        assert frames_in(image, 64, 64) == []
        with pytest.raises(ValueError, match="there is no frame of 64 x 64 cells in it"):
            one_frame_in(image, 64, 64)


@pytest.mark.parametrize("image, message", [
    (Image.new("L", (70, 70), 9), "one colour"), (Image.new("RGBA", (70, 70), (0, 0, 0, 0)), "one colour"),
    (Image.new("1", (10_000, 5_000)), "10000 x 5000 pixels, 40 million"),
    (sheet_of([written(), written(seed=1)]), "there are 2 frames in it"),
    (picture_of(written(32, 32)), "a frame of 32 x 32 cells, wanted is one of 64 x 64"),
    (picture_of(np.ones((64, 64))), "the frame in it is blank"),
])
def test_pictures_that_do_not_hold_one_frame(image, message):
    with pytest.raises(ValueError, match=message):
        one_frame_in(image, 64, 64)


def test_a_film_is_refused():
    file = io.BytesIO()
    pages = [picture_of(written(seed=i)) for i in range(3)]
    pages[0].save(file, "GIF", save_all=True, append_images=pages[1:])
    with opened(file) as image, pytest.raises(ValueError, match="several pictures one after the other"):
        one_frame_in(image, 64, 64)


@pytest.mark.parametrize("ending", ["qoi", "avif", "webp", "jp2", "tiff", "bmp", "gif", "png", "jpg"])
def test_a_damaged_file_is_one_error(tmp_path, ending):
    try:
        frame_image(KINDS["half words"], 1).convert("RGB").save(tmp_path / f"whole.{ending}")
    except (KeyError, OSError, ValueError):
        pytest.skip(f"this Pillow writes no {ending}")
    whole, rng = (tmp_path / f"whole.{ending}").read_bytes(), np.random.default_rng(0)

    def look(data):
        with opened(io.BytesIO(data)) as image:
            return grey_of(image)

    for at in (20, 30, 100, len(whole) // 2):
        with pytest.raises(ValueError, match="not a picture that can be read"):
            look(whole[:at])
    for _ in range(20):
        broken = np.frombuffer(whole, np.uint8).copy()
        broken[rng.integers(8, len(whole), 9)] = rng.integers(0, 256, 9)
        try:
            look(broken.tobytes())                                            # damaged pixels are pixels
        except ValueError as error:
            assert "\n" not in str(error)


def test_files_that_start_programs_are_not_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="not a picture"), opened(tmp_path / "a.png"):
        pass


def test_pixels_are_bounded(monkeypatch):
    monkeypatch.setattr(pictures, "SEARCHED_PIXELS", 10_000)
    assert grey_of(Image.fromarray(np.eye(256, dtype=np.uint8) * 255).convert("RGB")).shape == (86, 86)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_every_mode_of_pixels(mode):
    frame = written(16, 16)
    grey = picture_of(frame).convert("L")
    if mode in ("I", "I;16"):
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).convert(mode)
    else:
        image = grey.convert("F" if mode == "F" else "RGB").convert(mode)
    assert image.mode == mode and same(frames_in(image, 16, 16), frame)


# ---- reading --------------------------------------------------------------------------------------------------------


def test_the_checksum_has_the_last_word(small_model):
    """A frame of words alone and its mirror image along the diagonal look alike: both are read."""
    text = "Zoë 日本 qxj vkw zzp xyj"
    code = FrameCode(small_model, 32, 32)
    (one,) = code.write_texts([text])
    assert one.fits and one.rows == 4
    found = [one_frame_in(image, 32, 32) for image in (
        frame_image(one.frame.T, 4), picture_of(one.frame), picture_of(-one.frame))]
    assert [len(frames) for frames in found] == [2, 1, 1]
    first, second, inverse = read_found(code, found)
    assert first.exact and first.text == second.text == text and second.exact
    assert not inverse.exact and inverse.text != text
    assert read_found(code, []) == []


def test_the_section_counts_wrong_texts_that_are_called_exact(tmp_path, monkeypatch, capsys):
    save_tiny_model(tmp_path / "a.pt", grid_size=64, max_seq_len=64)
    (tmp_path / "texts.txt").write_text("\n\n".join(f"{name} ran." for name in ("Sue", "Max", "Ben", "Lily") * 20))
    subject = Subject(tmp_path / "a.pt", str(tmp_path / "texts.txt"), cache_dir=tmp_path / "cache", device="cpu")
    first = subject.code.write_texts(["Tom ran."])[0].frame
    all_ways = measure.ways()
    monkeypatch.setattr(measure, "ways", lambda: {
        "PNG": all_ways["PNG"], "turned": all_ways["turned by 90"], "another text": lambda frame: picture_of(first),
        "blank": lambda frame: picture_of(np.ones_like(frame)), "half": lambda frame: picture_of(np.where(
            np.arange(64)[:, None] < 32, frame, -frame))})
    result = measure.pictures(subject, num_samples=3)
    n = result["PNG"]["n"]
    counts = {name: (round(row["exact_match"] * n), row["wrong_called_exact"], row["no_frame_found"])
              for name, row in result.items() if name != "all"}
    assert n and counts == {"PNG": (n, 0, 0), "turned": (n, 0, 0), "another text": (0, n, 0), "blank": (0, 0, n),
                            "half": (0, 0, 0)}
    assert result["half"]["cells_wrong"] == 0.5 and result["all"]["n"] == 5 * n
    assert result["all"]["wrong_called_exact"] == result["all"]["no_frame_found"] == n
    assert "another text" in capsys.readouterr().out
