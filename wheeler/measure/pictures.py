"""Frames sent as pictures: section pictures of evaluate.py.

    python evaluate.py pictures --dataset sample --num_samples 50

Whole unseen stories, each the only thing in its picture, in 40 ways: kinds of files, sizes, colours, turns, what stands
around. A story is right where all its characters come back and the checksum agrees; a wrong text that is called exact
is what must not happen.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from PIL.Image import Resampling, Transpose

from wheeler.cli import progress
from wheeler.dynamics.pictures import frame_image
from wheeler.frame.pictures import one_frame_in, opened, picture_of, read_found
from wheeler.frame.places import MARGIN
from wheeler.measure.metrics import Subject, evenly
from wheeler.training.scores import share

WORDS = "Once upon a time there was a page with many words, and a picture stood between them. "
RESIZED = (("0.5", Resampling.LANCZOS), ("0.5", Resampling.NEAREST), ("0.6", Resampling.BICUBIC),
           ("0.75", Resampling.BILINEAR), ("0.9", Resampling.HAMMING), ("1.3", Resampling.NEAREST),
           ("1.5", Resampling.LANCZOS), ("2", Resampling.BICUBIC), ("3.1", Resampling.BOX), ("4", Resampling.BILINEAR))

Way = Callable[[np.ndarray], Image.Image]                                     # frame (H, W) -> what arrives


def sent(image: Image.Image, kind: str = "PNG", **options) -> Image.Image:
    """A picture written as a file of that kind, and opened."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    with opened(file) as image:
        image.load()
    return image


def scaled(image: Image.Image, factor: float, how: Resampling = Resampling.BICUBIC) -> Image.Image:
    return image.resize([max(1, round(side * factor)) for side in image.size], how)


def page(image: Image.Image) -> Image.Image:
    """A page of text with a picture in it, as a screenshot at 125% shows it."""
    width, height = image.width + 400, image.height + 240
    sheet, font = Image.new("RGB", (width, height), (250, 250, 252)), ImageFont.load_default(18)
    pen = ImageDraw.Draw(sheet)
    for y in range(8, height, 26):
        pen.text((12, y), WORDS * 4, font=font, fill=(20, 20, 24))
    pen.rectangle((230, 100, 270 + image.width, 140 + image.height), fill=(250, 250, 252))
    sheet.paste(image, (250, 120))
    return scaled(sheet, 1.25, Resampling.BILINEAR)


def with_alpha(image: Image.Image) -> Image.Image:
    """The light colour made transparent."""
    out = image.convert("RGBA")
    out.putalpha(image.convert("L").point(lambda level: 255 - level))
    return out


def disturbed(image: Image.Image, sigma: float) -> Image.Image:
    """Blurred by a pixel, with Gaussian noise in every channel."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1)), np.float32)
    noise = np.random.default_rng(pixels.size).normal(0, sigma, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def ways() -> dict[str, Way]:
    """40 ways to send the picture of a frame."""
    rgb = lambda frame: picture_of(frame).convert("RGB")
    jpeg = lambda image, quality: sent(image, "JPEG", quality=quality)
    turned = {"turned by 90": Transpose.ROTATE_90, "turned by 180": Transpose.ROTATE_180,
              "turned by 270": Transpose.ROTATE_270, "mirrored": Transpose.FLIP_LEFT_RIGHT,
              "transposed": Transpose.TRANSPOSE}
    out = {kind: lambda f, kind=kind: sent(picture_of(f), kind) for kind in ("PNG", "GIF", "BMP", "TIFF")}
    out |= {f"JPEG {q}": lambda f, q=q: jpeg(rgb(f), q) for q in (95, 75, 50, 30)}
    out["JPEG 75, then 50"] = lambda f: jpeg(jpeg(rgb(f), 75), 50)
    out |= {f"WebP {q}": lambda f, q=q: sent(rgb(f), "WEBP", quality=q) for q in (80, 30)}
    out["WebP lossless"] = lambda f: sent(rgb(f), "WEBP", lossless=True)
    out |= {f"resized by {factor}, {how.name.lower()}":
            lambda f, factor=factor, how=how: sent(scaled(rgb(f), float(factor), how)) for factor, how in RESIZED}
    out |= {"grey": lambda f: sent(rgb(f).convert("L")), "1 bit, dithered": lambda f: sent(rgb(f).convert("1")),
            "palette of 16 colours": lambda f: sent(rgb(f).quantize(16)),
            "16 bits": lambda f: sent(Image.fromarray(np.asarray(rgb(f).convert("L")).astype(np.uint16) * 257)),
            "alpha, light is transparent": lambda f: sent(with_alpha(rgb(f))),
            "inverted": lambda f: sent(ImageOps.invert(rgb(f)))}
    out |= {name: lambda f, how=how: sent(rgb(f).transpose(how)) for name, how in turned.items()}
    out |= {"black border, JPEG 75": lambda f: jpeg(ImageOps.expand(rgb(f), 60, 0), 75),
            "screenshot of a page, JPEG 75": lambda f: jpeg(page(rgb(f)), 75),
            "cut to the frame, JPEG 50": lambda f: jpeg(ImageOps.crop(rgb(f), 8 * MARGIN), 50),
            "dark, pale, gamma 1.8": lambda f: sent(rgb(f).point(lambda v: 40 + 90 * (v / 255) ** 1.8)),
            "blur 1 pixel, noise 20": lambda f: sent(disturbed(rgb(f), 20)),
            "no marks, 4 pixels a cell, in a page": lambda f: sent(page(frame_image(f).convert("RGB"))),
            "messenger: 1,280 pixels, JPEG 70":
                lambda f: jpeg(ImageOps.contain(picture_of(f, 24).convert("RGB"), (1280, 1280)), 70)}
    return out


def pictures(subject: Subject, num_samples: int = 50, batch_size: int = 64) -> dict:
    """Stories right, and wrong texts called exact, of each way to send their pictures; stories that do not fit into a
    frame are left out. Frames with the same signs read the same: each is read once. cells_wrong: share of cells, of
    pictures in which a frame was found."""
    data, code = subject.data, subject.code
    whole = np.flatnonzero(data.lengths < subject.model.config.max_seq_len)
    texts = [data.row(int(i)) for i in whole[evenly(len(whole), num_samples)]]
    written = [one for one in code.write(texts) if one.fits]
    print(f"{len(written)} of {len(texts)} stories fit into a frame and are sent", flush=True)
    if not written:
        raise ValueError("no story fits into a frame")
    known, result, hits = {}, {}, []
    for name, way in ways().items():
        found, wrong = [], []
        for one in progress(written, name):
            try:
                frames = one_frame_in(way(one.frame), code.height, code.width)
            except ValueError:
                found.append(None)
                continue
            found.append(frames)
            wrong.append(min(float(((frame < 0) != (one.frame < 0)).mean()) for frame in frames))
        keys = [frames and b"".join((frame < 0).tobytes() for frame in frames) for frames in found]
        new = [i for i, key in enumerate(keys) if key and key not in known and keys.index(key) == i]
        for start in range(0, len(new), batch_size):
            part = new[start : start + batch_size]
            read = read_found(code, [found[i] for i in part])
            known |= {keys[i]: reading for i, reading in zip(part, read, strict=True)}
        said = [known[key].text if key and known[key].exact else None for key in keys]
        right = [text == one.ids.text for text, one in zip(said, written, strict=True)]
        hits += right
        result[name] = row = share(right) | {
            "wrong_called_exact": sum(text is not None for text in said) - sum(right),
            "no_frame_found": found.count(None),
            "cells_wrong": float(np.mean(wrong)) if wrong else None}
        print(line(name, row), flush=True)
    result["all"] = share(hits) | {key: sum(row[key] for row in result.values()) for key in (
        "wrong_called_exact", "no_frame_found")}
    print(line(f"all {len(result) - 1} ways", result["all"]), flush=True)
    return result


def line(name: str, row: dict) -> str:
    low, high = row["interval"]
    wrong = f", {row['cells_wrong']:.4%} of cells wrong" if row.get("cells_wrong") else ""
    return (f"{name:<37} {row['exact_match']:>7.1%} right ({low:.1%} - {high:.1%}), {row['wrong_called_exact']} wrong "
            f"called exact, no frame found in {row['no_frame_found']}{wrong}")
