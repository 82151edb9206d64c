"""Texts through a trained model: read back from grid, frame and attractor, with pictures of each.

    python sample.py "Once upon a time there was a little rabbit."      # and samples/1.png, samples/1-frame.png
    python sample.py --from samples/1-frame.png                         # the text that a picture holds
    python sample.py "The cat sat on the mat." --noise 1.2 --ticks 10 --redundant
    python sample.py "The cat sat on the mat." --subtract "The cat" --add "The dog"
    python sample.py --interpolate "The cat sat on the mat." "The dog ran to the park."
    python sample.py --file stories.txt --json                          # many texts, one JSON object a line
    python sample.py book.txt                           # a text of any length as a film: samples/book-film.png, sheets
    echo "The cat sat on the mat." | python sample.py -

"grid" is read from the (H, W, D) grid, "frame" from the frame of `encode_frame`, "attractor" from what noise and the
dynamics made of that. Each is "exact", the very characters that went in (and a frame's checksum agrees), or "DIFFERS",
also where the text was cut or the tokenizer does not give it back, or a "gist": what the meaning tiles tell where the
words did not fit or were lost. Pictures of text N: N.png shows the frame, the same with noise, and collapsed;
N-frame.png is the frame with marks at its corners. Pictures of an earlier run go. `--from` reads a frame back, also as
JPEG or WebP, from a screenshot, grey, resized, turned or mirrored; "exact" then means its checksum, of the tokens.
Files and standard input hold texts separated by blank lines; .jsonl files an object a line with a field "text".

The name of a file in place of a text makes a film of all that is in it: an animated PNG of as many frames as it takes,
and contact sheets. `--from` puts the frames of films together again, from animations, sheets and single pictures, in
any order; a gap is marked.

Exits with 1 where a picture gives no more than a gist, with 2 where the input is bad or pictures cannot be written.
"""

import argparse
import gc
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from models import WheelerTextAutoencoder
from wheeler.cli import Parser, complaint, counted, json_line, open_console, plain
from wheeler.frame.code import FrameCode, cost_of, frame_bits
from wheeler.frame.contents import Reading, ReadOnce
from wheeler.frame.film import films_of, read_film, write_film
from wheeler.frame.pictures import one_frame_in, opened, picture_of, read_found, several_frames_in, sheets_of
from wheeler.frame.redundant import KINDS
from wheeler.model.checkpoint import find_checkpoint
from wheeler.model.inputs import encode_text, padded
from wheeler.model.tokenizer import altered, example
from wheeler.training.texts import read_local, split_texts
from wheeler_cpu import WheelerMemoryCPU, add_noise, frame_image

INPUT_BYTES, BATCH = 1 << 24, 16                                              # largest text file; texts at once


# ---- texts ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def reconstruct(model: WheelerTextAutoencoder, code: FrameCode | None, texts: list[str], noise: float = 0.5,
                ticks: int | None = None, redundant: bool | str = False, seed: int = 0, first: int = 0) -> list[dict]:
    """What comes back of each text: a dict with the entries that `--json` prints, and "frames", a list of frames (H, W)
    in [-1, 1]: as written, with noise, collapsed. "exact": from frame and attractor came the characters that went in,
    and their checksums agree. "bits": cost of the words; "frame_bits": what a frame holds. code: None where the model's
    sides give no frame: then only the grid is read. first: number of the first text; noise depends on it and the
    seed."""
    rows, kept = zip(*(encode_text(text, model.tokenizer, model.config) for text in texts), strict=True)
    lost = altered(model.tokenizer, kept, rows)
    if lost:
        warnings.warn(f"the tokenizer does not give {len(lost)} of {len(texts)} texts back: {example(*lost[0])}")
    grids = model.encode(*padded(list(rows), model.config.pad_token_id, model.device))
    results = [{"text": text, "tokens": len(row), "cut": part != text, "grid": back, "grid_exact": back == text,
                "exact": False, "frames": []}
               for text, row, part, back in zip(texts, rows, kept, listed(model.decode(grids)), strict=True)]
    if code is None:
        return results
    written = code.write(list(rows), redundant)
    holds = frame_bits(code.height, code.width, redundant=redundant)
    frames = np.stack([one.frame for one in written])
    noisy = np.stack([add_noise(f, noise, np.random.default_rng([seed, i])) for i, f in enumerate(frames, first)])
    most = {} if ticks is None else {"max_ticks": ticks}
    run = WheelerMemoryCPU(code.width, code.height).run_dynamics(noisy, **most)
    read = code.read(np.concatenate([frames, run.final_frame]))
    for i, (result, one, after) in enumerate(zip(results, written, run, strict=True)):
        for name, reading in (("frame", read[i]), ("attractor", read[len(frames) + i])):
            result |= {name: reading.text or "", f"{name}_exact": reading.exact and reading.text == result["text"],
                       f"{name}_gist": reading.kind == "gist"}
        cost = one.cost if one.fits else cost_of(code.charges([rows[i]], [one.tiles[:0]])[0])
        result |= {"exact": result["frame_exact"] and result["attractor_exact"], "fits": one.fits,
                   "bits": round(cost, 1), "frame_bits": round(holds, 1), "meaning_tiles": len(one.tiles),
                   "ticks": after.ticks, "state": after.state, "frames": [frames[i], noisy[i], after.final_frame]}
    return results


def listed(texts: str | list[str]) -> list[str]:
    """`decode` gives a str for one text."""
    return [texts] if isinstance(texts, str) else texts


def frame_code(model: WheelerTextAutoencoder) -> FrameCode | None:
    """None where the model's sides give no frame."""
    try:
        return FrameCode(model)
    except ValueError:
        return None


# ---- pictures -------------------------------------------------------------------------------------------------------


class Pictures:
    """The PNGs of a run in a folder ("": none), each with a note in it: the weights behind a frame. What the disk
    refuses first stands in `problem`, and no more is written: the texts are worth having without pictures."""

    def __init__(self, folder: str):
        self.folder, self.problem = Path(folder) if folder else None, ""

    def save(self, image: Image.Image, name: str, note: str, more: Sequence[Image.Image] = ()) -> list[str]:
        """Write a picture, an animation if there are more; its path, in an empty list where there is none."""
        if self.folder is None or self.problem:
            return []
        info = PngImagePlugin.PngInfo()
        info.add_text("wheeler", note)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).unlink(missing_ok=True)                      # Pillow removes half a file if it is new
            animated = {"save_all": True, "append_images": more, "duration": 500, "loop": 0} if more else {}
            image.save(self.folder / name, pnginfo=info, **animated)
        except OSError as error:
            self.problem = f"--output_dir {self.folder}: {name} cannot be written ({error.strerror or error})"
            return []
        return [str(self.folder / name)]

    def remove(self, names: str) -> None:
        """Remove what earlier runs wrote under names of that pattern: it would pass for a picture of this run. Files
        without the note are somebody else's."""
        try:
            for path in self.folder.iterdir() if self.folder and self.folder.is_dir() else ():
                if re.fullmatch(names, path.name) and note_in(path):
                    path.unlink()
        except OSError as error:
            self.problem = (f"--output_dir {self.folder}: pictures of an earlier run cannot be removed "
                            f"({error.strerror or error})")


def note_in(path: str | Path) -> str:
    """What `Pictures.save` noted in a picture: at a frame the fingerprint of its weights; "" if nothing."""
    try:
        with opened(path) as image:
            return (str(image.info.get("wheeler", "")).split() or [""])[-1]   # earlier versions named a kind first
    except Exception:                                                         # as many types as formats
        return ""


def side_by_side(frames: list[np.ndarray], scale: int = 4) -> Image.Image:
    gap = np.full((len(frames[0]), 2), np.nan)
    return frame_image(np.concatenate([part for frame in frames for part in (frame, gap)][:-1], axis=1), scale)


def readings_of(code: FrameCode, path: str) -> list[Reading]:
    """What the frames in a picture say, one, or all of a sheet or an animation. ValueError where there is none, or one
    of other weights."""
    if not os.path.isfile(path):
        raise ValueError(f"--from {path}: no such file")
    weights, mine = note_in(path), code.weights_name
    try:
        with opened(path) as image:
            several = several_frames_in(image, code.height, code.width)
            found = [[frame] for frame in several] or [
                one_frame_in(image, code.height, code.width, trusted=bool(weights))]
    except (ValueError, OSError, SyntaxError) as error:                       # Pillow's for a file that is cut off
        raise ValueError(f"--from {path}: {complaint(error)}") from None
    if weights and weights != mine:
        raise ValueError(f"--from {path}: written with the weights {weights}, this checkpoint has {mine}; only the "
                         "weights that wrote a frame can read it (--checkpoint)")
    readings = [reading for start in range(0, len(found), BATCH)
                for reading in read_found(code, found[start : start + BATCH])]
    if any(reading.foreign for reading in readings):
        raise ValueError(f"--from {path}: its header names other weights than this checkpoint has, {mine}; only the "
                         "weights that wrote a frame can read it (--checkpoint)")
    return readings


def read_pictures(code: FrameCode, paths: list[str]) -> Iterator[tuple[dict, str]]:
    """What pictures say: (what `--json` prints, what is wrong, "" if nothing). Of a picture with one frame "file",
    "text", "exact", "gist", "meaning_tiles" and "bits"; exact: the checksum agrees; else the text is a gist, or ""
    where not even that is left. The frames of films, in whichever pictures, are put together: "text", "exact",
    "frames", "missing", the first and last number of each gap. A picture that cannot be read does not keep others from
    it; ValueError where none can."""
    parts: list[Reading] = []
    unread: list[tuple[str, str]] = []
    for path in paths:
        try:
            readings = readings_of(code, path)
        except ValueError as error:
            unread.append((path, str(error)))
            continue
        one = readings[0]
        if len(readings) > 1 or one.exact and one.part:
            parts += readings
            continue
        trouble = {"gist": "a gist, no more: its words are damaged, or did not fit",
                   "nothing": "nothing can be read: neither words nor meaning are left"}.get(one.kind)
        yield ({"file": path, "text": one.text or "", "exact": one.exact, "gist": one.kind == "gist", "meaning_tiles":
                round(one.meaning_tiles, 1), "bits": round(one.bits, 1)}, f"{path}: {trouble}" if trouble else "")
    if len(unread) == len(paths):
        raise ValueError(unread[0][1])
    for path, trouble in unread:
        yield {"file": path, "text": "", "exact": False, "gist": False, "meaning_tiles": 0.0, "bits": 0.0}, trouble
    films, lost = films_of(parts)
    for k, film in enumerate(films):
        trouble = [] if film.exact else [film.trouble]
        trouble += [f"{lost} frames cannot be read"] if lost and k == 0 else []
        yield ({"text": film.text, "exact": film.exact, "frames": film.count, "missing": film.missing},
               "; ".join(trouble))
    if parts and not films:
        raise ValueError(f"--from: none of the {len(parts)} frames can be read")


# ---- films ----------------------------------------------------------------------------------------------------------


def text_in(path: str) -> str:
    """A file as one text, every character as it is."""
    if os.path.getsize(path) > INPUT_BYTES:
        raise ValueError(f"{path}: larger than {INPUT_BYTES >> 20} MiB")
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); --from reads pictures") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def film(code: FrameCode, path: str, noise: float, seed: int, pictures: Pictures) -> dict:
    """A file's text as a film, read back from its frames, from what noise and the dynamics leave of them, and from its
    pictures: an animation and contact sheets. What `--json` prints."""
    text, start = text_in(path), time.perf_counter()
    frames = np.stack([one.frame for one in write_film(code, text)])
    written = time.perf_counter()
    noisy = np.stack([add_noise(frame, noise, np.random.default_rng([seed, i])) for i, frame in enumerate(frames)])
    after = WheelerMemoryCPU(code.width, code.height).run_dynamics(noisy).final_frame
    begun = time.perf_counter()
    once, told = ReadOnce(code), lambda films: [one.text for one in films] == [text]
    result = {"file": path, "characters": len(text), "frames": len(frames), "film_exact": told(read_film(
        once, frames)[0]), "seconds": round(written - start, 1), "reading_seconds": round(
        time.perf_counter() - begun, 1)}
    # What came back whole need not be decoded again: all that follows should be the very same frames.
    result["attractor_exact"] = told(read_film(once, after)[0])
    stem = Path(path).stem
    pictures.remove(re.escape(stem) + r"-(film|sheet-\d+)\.png")
    first, *more = map(picture_of, frames)
    saved = pictures.save(first, f"{stem}-film.png", code.weights_name, more)
    for k, sheet in enumerate(sheets_of(frames), 1):
        saved += pictures.save(sheet, f"{stem}-sheet-{k}.png", code.weights_name)
    back = [list(read_pictures(once, part)) for part in (saved[:1], saved[1:]) if part]
    if back:
        result["pictures_exact"] = all(len(rows) == 1 and rows[0][0]["text"] == text for rows in back)
    return {**result, "pictures": saved}


# ---- between texts ---------------------------------------------------------------------------------------------------


def frames_of(model: WheelerTextAutoencoder, texts: list[str]) -> list[np.ndarray]:
    """The frames of texts, of the gist alone where the words do not fit; none where the model's sides give no frame."""
    code = frame_code(model)
    return [] if code is None else [one.frame for one in code.write(
        [encode_text(text, model.tokenizer, model.config)[0] for text in texts])]


@torch.no_grad()
def arithmetic(model: WheelerTextAutoencoder, text: str, plus: list[str], minus: list[str]) -> dict:
    """The text of grid(text) + grids of `plus` - grids of `minus`."""
    grids = model.encode([text, *plus, *minus])
    signs = torch.tensor([1] * (1 + len(plus)) + [-1] * len(minus)).to(grids)
    total = torch.einsum("b,bhwd->hwd", signs, grids)[None]
    return {"text": text, "add": plus, "subtract": minus, "result": model.decode(total)}


# ---- command line ---------------------------------------------------------------------------------------------------


def indented(text: str, by: int = 19) -> str:
    """A text as a person sees it in a table: further lines begin where the first one does."""
    return plain(text).replace("\n", "\n" + " " * by)


def gather(args: argparse.Namespace) -> list[str]:
    """The texts of the command line, of standard input and of files."""
    texts = []
    for text in args.texts:
        if text == "-":
            raw = sys.stdin.buffer.read(INPUT_BYTES + 1)
            if len(raw) > INPUT_BYTES:
                raise ValueError(f"standard input is longer than {INPUT_BYTES >> 20} MiB")
            try:
                texts += split_texts(raw.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                raise ValueError(f"standard input is not UTF-8 text ({error})") from None
        elif not os.path.isfile(text):                                        # a file becomes a film
            texts.append(text)
            if re.fullmatch(r"\S+\.(txt|md|jsonl|png)", text):
                print(f"sample.py: {text}: no such file, so it is taken as a text", file=sys.stderr)
    for name in args.file:
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"--file {name}: no such file")
        if path.suffix not in (".txt", ".jsonl", ".json"):
            raise ValueError(f"--file {name}: must be a .txt or .jsonl file")
        if path.stat().st_size > INPUT_BYTES:
            raise ValueError(f"--file {name}: larger than {INPUT_BYTES >> 20} MiB")
        try:
            texts += read_local(path, "text")
        except ValueError as error:
            raise ValueError(str(error).replace("--dataset", "--file").replace(" (--text_column)", "")) from None
    if len(texts) > args.max_texts:
        print(f"sample.py: {len(texts)} texts, the first {args.max_texts} are taken (--max_texts)", file=sys.stderr)
    return texts[: args.max_texts]


def report(result: dict, pictures: list[str]) -> Iterator[str]:
    """The lines that a person sees of one result of `reconstruct`."""
    yield f"text               {indented(result['text'][:2000])}"
    if result["cut"]:
        yield f"                   too long: cut to {result['tokens']} tokens, the end token counted"
    for name in ("grid", "frame", "attractor"):
        if name in result:
            verdict = "exact" if result[f"{name}_exact"] else "gist" if result.get(f"{name}_gist") else "DIFFERS"
            blank = name != "grid" and result["text"] and not result[name]
            yield (f"{name:<10} DIFFERS nothing can be read, neither words nor meaning" if blank else
                   f"{name:<10} {verdict:<7} {indented(result[name])}".rstrip(" "))
    if "frame" not in result:
        yield "frame              none: the sides of this model's grid give no frame"
    elif not result["fits"]:
        yield (f"           does not fit: {counted(result['tokens'], 'token')} cost {result['bits']:.0f} bits, "
               f"a frame holds about {result['frame_bits']:.0f}; its gist is in "
               f"{counted(result['meaning_tiles'], 'meaning tile')}")
    else:
        ended = "stopped" if result["state"] == "CHAOTIC" else result["state"]
        lost = result["attractor_gist"] or result["text"] and not result["attractor"]
        yield (f"           {counted(result['tokens'], 'token')}, {result['bits']:.0f} of about "
               f"{result['frame_bits']:.0f} bits, {counted(result['meaning_tiles'], 'meaning tile')}, {ended} at "
               f"tick {result['ticks']}"
               + "; its checksum fails, the words are lost" * bool(lost))
    if pictures:
        yield f"           {' '.join(pictures)}"


def report_film(result: dict) -> Iterator[str]:
    """The lines that a person sees of one result of `film`."""
    verdict = lambda name: "exact" if result[name] else "DIFFERS"
    count = result["frames"]
    yield f"text               {result['file']}, {counted(result['characters'], 'character')}"
    yield (f"film       {verdict('film_exact'):<7} {counted(count, 'frame')}, "
           f"{counted(round(result['characters'] / count), 'character')}{' each' * (count > 1)}, "
           f"written in {result['seconds']} s")
    yield f"attractor  {verdict('attractor_exact'):<7} read in {result['reading_seconds']} s"
    if result["pictures"]:
        shown = result["pictures"][:3] + ["..."] * (len(result["pictures"]) > 3)
        yield f"pictures   {verdict('pictures_exact'):<7} {' '.join(shown)}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", help="texts; - reads standard input")
    parser.add_argument("--file", nargs="+", default=[], help=".txt or .jsonl files of texts")
    parser.add_argument("--from", dest="pictures", nargs="+", default=[], metavar="PNG", help="pictures to read")
    parser.add_argument("--interpolate", nargs=2, metavar=("A", "B"), help="texts between two, by their meaning")
    parser.add_argument("--steps", type=int, default=9, help="texts in all, A and B counted")
    parser.add_argument("--add", action="append", default=[], metavar="TEXT", help="grid to add to that of the text")
    parser.add_argument("--subtract", action="append", default=[], metavar="TEXT", help="grid to subtract")
    parser.add_argument("--noise", type=float, default=0.5, help="amplitude of uniform noise; below 1 it keeps signs")
    parser.add_argument("--ticks", type=int, default=None, help="ticks of the dynamics; default: to the attractor")
    one = parser.add_mutually_exclusive_group()
    for flag, kind, what in zip(("--redundant", "--erasures"), KINDS, ("flipped signs", "large erased areas")):
        one.add_argument(flag, dest="redundant", action="store_const", const=kind, default="",
                         help=f"frames that withstand {what}; they hold less")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--max_texts", type=int, default=100, help="texts to take at most")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--checkpoint", default="checkpoints/best.pt", help="file of train.py or folder of a model")
    parser.add_argument("--output_dir", default="samples", help="folder for the pictures; '' writes none")
    args = parser.parse_args(argv)
    open_console()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"sample.py: {message}", file=sys.stderr)
            return run(args)
    except KeyboardInterrupt:
        print("sample.py: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:                                                   # the reader, say head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"sample.py: {complaint(error)}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    modes = [bool(args.texts or args.file), bool(args.pictures), args.interpolate is not None]
    if sum(modes) != 1:
        raise ValueError("give texts, or --from PNG, or --interpolate A B, one of these (--help explains them)")
    change = bool(args.add or args.subtract)
    if change and (len(args.texts) != 1 or args.file):
        raise ValueError("--add and --subtract change the grid of one text: give exactly one")
    if not (math.isfinite(args.noise) and 0 <= args.noise <= 10):
        raise ValueError(f"--noise {args.noise} must be in 0 .. 10")
    for name, low, high in (("steps", 2, 100), ("ticks", 1, 100_000), ("seed", 0, 2**63), ("max_texts", 1, 10**6)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name} {value} must be in {low} .. {high}")
    texts, files = gather(args), [text for text in args.texts if os.path.isfile(text)]
    if modes[0] and not texts and not files:
        raise ValueError("there is no text in the input")
    if files and args.redundant:
        raise ValueError(f"{files[0]}: a file becomes a film, whose frames are plain: leave --redundant and --erasures "
                         "out")
    if change and len(texts) != 1:
        raise ValueError(f"--add and --subtract change the grid of one text, the input holds {len(texts)}" +
                         " and a file" * bool(files))
    model = WheelerTextAutoencoder.load_from_checkpoint(args.checkpoint)
    if model.tokenizer is None:
        raise ValueError(f"--checkpoint {args.checkpoint}: it has no tokenizer")
    pictures = Pictures(args.output_dir)
    say = lambda row: print(json_line(row) if args.json else row, flush=True)

    def picture(frames: list[np.ndarray], name: str) -> list[str]:
        if not frames:
            pictures.remove(re.escape(name))
            return []
        return pictures.save(side_by_side(frames), name, "several")

    if args.pictures:
        lost = False
        for result, trouble in read_pictures(FrameCode(model), args.pictures):
            say(result if args.json else plain(result["text"]))
            if trouble:
                lost = True
                print(f"sample.py: {trouble}", file=sys.stderr)
        return int(lost)
    if args.interpolate:
        if not model.config.meaning_tiles:
            raise ValueError("--interpolate goes through meaning tiles, and frames of this model have none")
        told = model.interpolate(*args.interpolate, args.steps)
        for i, text in enumerate(told):
            share = round(i / (args.steps - 1), 4)
            say({"share": share, "text": text} if args.json else f"{share:.2f}  {indented(text, 6)}")
        saved = picture(frames_of(model, told) if args.output_dir else [], "interpolation.png")
    elif change:
        result = arithmetic(model, texts[0], args.add, args.subtract)
        say(result if args.json else plain(result["result"]))
        shown = [texts[0], *args.add, *args.subtract, result["result"]]
        saved = picture(frames_of(model, shown) if args.output_dir else [], "arithmetic.png")
    else:
        code = frame_code(model)
        for start in range(0, len(texts), BATCH):
            batch = reconstruct(model, code, texts[start : start + BATCH], args.noise, args.ticks, args.redundant,
                                args.seed, start)
            if start == 0:
                pictures.remove(r"[1-9]\d*(-frame)?\.png")
            for number, result in enumerate(batch, start + 1):
                frames = result.pop("frames")
                saved = picture(frames, f"{number}.png")
                if saved:
                    saved += pictures.save(picture_of(frames[0]), f"{number}-frame.png", code.weights_name)
                if args.json:
                    say({"checkpoint": str(find_checkpoint(args.checkpoint)), **result, "pictures": saved})
                else:
                    print("\n".join([*([""] if number > 1 else []), *report(result, saved)]), flush=True)
        for path in files:
            if code is None:
                raise ValueError(f"{path}: the sides of this model's grid give no frame")
            result = film(code, path, args.noise, args.seed, pictures)
            say({"checkpoint": str(find_checkpoint(args.checkpoint)), **result} if args.json else
                "\n".join(report_film(result)))
        saved = []
    if saved and not args.json:
        print(f"      {saved[0]}")
    if pictures.problem:
        print(f"sample.py: {pictures.problem}", file=sys.stderr)
    return 2 if pictures.problem else 0


if __name__ == "__main__":
    # What was imported stays until the end: looking through it for garbage again and again takes a fifth of the time.
    gc.freeze()
    sys.exit(main())
