"""What the meaning in a frame is worth: the bits that it saves, the gists that are told of it, texts between two
meanings, and what is read of erased frames. Parts bits, gist, interpolation and erased of section meaning of
evaluate.py."""

import math
import re
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from wheeler.cli import progress
from wheeler.dynamics.tiles import TILE, split_tiles
from wheeler.frame.cells import word_regions
from wheeler.frame.code import FrameCode, Reading, Written
from wheeler.frame.redundant import KINDS
from wheeler.measure.memories import Pool, chunks, costs
from wheeler.measure.metrics import beginnings, collapse, language_model_bits
from wheeler.measure.recall import ranks, shown
from wheeler.measure.survive import disturbances
from wheeler.model.inputs import padded
from wheeler.training.data import Row
from wheeler.training.scores import share

NEAREST = 1000                                                                # texts that a gist may be nearest to
TILES = (0, 7, 15, 23, 31, 39, 47, 55)
STEPS = 5                                                                     # of the interpolation
ERASED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 2 / 3, 0.7, 0.8)                 # share of the area


def average(values: Sequence[float], name: str = "mean") -> dict:
    """Mean of shares under `name`, its 95% interval from the standard error, within [0, 1], and n."""
    mean, half = float(np.mean(values)), 1.96 * float(np.std(values)) / math.sqrt(len(values))
    return {name: mean, "interval": (max(0.0, mean - half), min(1.0, mean + half)), "n": len(values)}


def content_words(text: str) -> set[str]:
    """Lower-case alphabetic words of 3 letters or more that are no stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return set(re.findall(r"[^\W\d_]{3,}", (text or "").lower())) - ENGLISH_STOP_WORDS


def covered(words: set[str], text: str) -> float:
    """Share of the words that are content words of the text; 0 if there are none."""
    return len(words & content_words(text)) / max(1, len(words))


# ---- bits -----------------------------------------------------------------------------------------------------------


def bits(pool: Pool, count: int, seed: int) -> dict:
    """Bits of the words given the first tiles of the meaning, as a ratio of those without any; intervals: 95% of 1,000
    bootstrap samples of the texts."""
    texts = pool.texts[: min(count, pool.unseen)]
    tiles, found = pool.code.meaning_tiles(texts), {}
    for k in progress([k for k in TILES if k <= tiles.shape[1]], "bits given tiles"):
        found[k] = costs(pool.code, texts, [row[:k] for row in tiles])
    again, result = np.random.default_rng([seed, 2]).integers(len(texts), size=(1000, len(texts))), {}
    print(f"bits of the words of {len(texts)} unseen texts given meaning tiles, and the ratio to none:")
    for k, of_texts in found.items():
        resampled = of_texts[again].sum(1) / found[0][again].sum(1)
        row = result[str(k)] = {"ratio": float(of_texts.sum() / found[0].sum()), "bits": float(of_texts.mean()),
                                "interval": tuple(np.quantile(resampled, (0.025, 0.975)).tolist()), "n": len(texts)}
        print(f"   {k:>2} tiles {row['bits']:>7.1f} bits  {shown(row, 'ratio')}")
    sys.stdout.flush()
    return result


# ---- gist -----------------------------------------------------------------------------------------------------------


def without_words(code: FrameCode, frames: np.ndarray, tiles: np.ndarray) -> np.ndarray:
    """A copy of plain frames (n, H, W) with 0 in all cells of words. tiles (n,): how many meaning tiles each has."""
    out, rows, per_row = frames.copy(), split_tiles(frames[0]).shape[0], code.width // TILE
    for frame, count in zip(out, tiles, strict=True):
        of_words = rows // per_row - (int(count) + 1 if count else 0) // per_row
        for top, left, height, width in word_regions(code.height, code.width, of_words):
            frame[top : top + height, left : left + width] = 0
    return out


def read(code: FrameCode, frames: np.ndarray, batch_size: int, what: str) -> list[Reading]:
    return [reading for part in chunks(frames, batch_size, what) for reading in code.read(part)]


def judge_gists(stories: Sequence[str], gists: Sequence[str], scores: np.ndarray) -> dict:
    """words: share of a story's content words that its gist has; precision: share of the gist's content words that the
    story has; nearest: the gist is nearer to its story than to any other. scores (gists, texts): nearness, the stories
    being the first texts."""
    return {"words": average([covered(content_words(a), b) for a, b in zip(stories, gists, strict=True)]),
            "precision": average([covered(content_words(b), a) for a, b in zip(stories, gists, strict=True)]),
            "nearest": share((ranks(scores, np.arange(len(stories))) == 0).tolist(), "nearest")}


def gist(pool: Pool, count: int) -> dict:
    """What is told when the words' cells are gone. Nearness: cosine of TF-IDF among NEAREST texts. control: the gist of
    the text before."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    among = pool.said[:NEAREST]
    places = range(min(count, len(among)))
    frames = without_words(pool.code, *pool.frames(places))
    readings = read(pool.code, frames, pool.batch_size, "reading gists")
    stories, gists = pool.said[: len(places)], [reading.text or "" for reading in readings]
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", dtype=np.float32)
    known = vectorizer.fit_transform(among)
    scores = (vectorizer.transform(gists) @ known.T).toarray()
    result = {"read as exact": share([reading.exact for reading in readings]), "among": len(among),
              "own frame": judge_gists(stories, gists, scores),
              "another's frame": judge_gists(stories, gists[-1:] + gists[:-1], np.roll(scores, 1, 0))}
    print(f"gists of {len(gists)} unseen texts, all words' cells 0 "
          f"({result['read as exact']['exact_match']:.0%} said to be exact):\n{'':<20}{'words of the story':<25}"
          f"{'words of the gist':<25}nearest of {len(among):,} texts")
    for name in ("own frame", "another's frame"):
        row = result[name]
        print(f"   {name:<17}{shown(row['words'], 'mean'):<25}{shown(row['precision'], 'mean'):<25}"
              f"{shown(row['nearest'], 'nearest')}")
    for label, text in (("such as:", stories[0]), ("gist:", gists[0])):
        print(f"   {label:<9}{' '.join(text.split())[:150]}", flush=True)
    return result


# ---- interpolation --------------------------------------------------------------------------------------------------


@torch.no_grad()
def meanings(pool: Pool, places: Sequence[int]) -> torch.Tensor:
    """(len(places), Dm)"""
    model = pool.subject.model
    return torch.cat([model.meanings(*padded([pool.texts[i] for i in part], model.config.pad_token_id, model.device))
                      for part in chunks(list(places), 16, "meanings")])


def neighbours(pool: Pool, count: int) -> list[tuple[int, int]]:
    """Pairs of unseen texts: one after another, each with the one nearest in meaning that is in no pair yet."""
    unit = F.normalize(meanings(pool, range(pool.unseen)), dim=-1)
    near, pairs = (unit @ unit.T).fill_diagonal_(-2).cpu().numpy(), []
    for i in range(pool.unseen):
        if len(pairs) < count and (near[i] > -2).any():
            j = int(near[i].argmax())
            pairs.append((i, j))
            near[[i, j]], near[:, [i, j]] = -2, -2
    return pairs


def along(pool: Pool, pairs: Sequence[tuple[int, int]]) -> dict:
    """Figures of texts told of mixed meanings, at STEPS equal distances, as `WheelerTextAutoencoder.interpolate` tells
    them, the ends too; and of the stories themselves. A text that repeats itself is likely for that:
    `distinct` is the share of a text's words that differ."""
    model, subject, rows = pool.subject.model, pool.subject, []
    shares = torch.linspace(0, 1, STEPS, dtype=torch.float32)
    for part in chunks(pairs, 8, "interpolating"):
        first, last = (meanings(pool, ends)[:, None] for ends in zip(*part, strict=True))
        mixed = torch.lerp(first, last, shares.to(first)[:, None])            # (pairs, STEPS, Dm)
        rows += model.retell_meanings(mixed.flatten(0, 1))
    stories = [pool.texts[i] for pair in pairs for i in pair]
    texts = subject.say(rows + stories)
    bits = language_model_bits(model, subject.rows(rows + stories), list(range(len(texts))), 16)
    fluency = bits / np.maximum(1, [len(text) for text in texts])
    distinct = [len(set(text.lower().split())) / max(1, len(text.split())) for text in texts]
    words = [[content_words(pool.said[i]) for i in pair] for pair in pairs]

    def figures(chosen: slice) -> dict:
        return {"bits_a_character": float(fluency[chosen].mean()), "distinct": float(np.mean(distinct[chosen])),
                "deviation": float(fluency[chosen].std())}

    result = {}
    for k, at in enumerate(shares.tolist()):
        every = slice(k, len(rows), STEPS)
        result[f"{at:.2f}"] = figures(every) | {
            name: average([covered(both[end], text) for both, text in zip(words, texts[every], strict=True)])
            for end, name in enumerate(("first", "second"))} | {"text": texts[k]}
    return result | {"stories": figures(slice(len(rows), None))}


def interpolation(pool: Pool, count: int) -> dict:
    pairs = neighbours(pool, count)
    if not pairs:
        print("interpolation is left out: there are no two unseen texts")
        return {}
    result = along(pool, pairs) | {"pairs": len(pairs)}
    print(f"between {len(pairs)} pairs of neighbours; bits a character of the language model, distinct words, content "
          "words of the first and of the second story:")
    for name, row in result.items():
        if isinstance(row, dict):
            more = f"{shown(row['first'], 'mean'):<24}{shown(row['second'], 'mean'):<24}" if "first" in row else ""
            text = " ".join(row.get("text", "").split())[:70]
            print(f"   {name:<8}{row['bits_a_character']:>6.3f}  {row['distinct']:>6.1%}  {more}{text}")
    sys.stdout.flush()
    return result


# ---- erased ---------------------------------------------------------------------------------------------------------


def judge_readings(texts: Sequence[Row], said: Sequence[str], readings: Sequence[Reading]) -> dict:
    """Share that is read word for word; `words`: share of the text's content words that are read, in the text or in its
    gist; `gists`: the same of those not read word for word, if there are any; `control`: that are in what is read of
    the text before."""
    exact = [reading.exact and reading.text == row.text for reading, row in zip(readings, texts, strict=True)]
    words = [1.0 if same else covered(content_words(text), reading.text)
             for same, text, reading in zip(exact, said, readings, strict=True)]
    gists = [share_of for same, share_of in zip(exact, words, strict=True) if not same]
    others = [covered(content_words(text), other.text) for text, other in zip(said, readings[-1:] + readings[:-1])]
    return share(exact) | {"words": average(words), "control": average(others)} | (
        {"gists": average(gists)} if gists else {})


def read_damaged(code: FrameCode, written: Sequence[Written], frames: np.ndarray, what: str) -> list[Reading]:
    """What `FrameCode.read` says of frames that the texts were written into, for less work: the words are
    there if the number that the frame holds lies in the text's interval, and only gists are decoded. RuntimeError where
    reading the first frames for real says otherwise."""
    out: list[Reading] = []
    for part in chunks(list(zip(written, frames, strict=True)), 64, what):
        lost = []
        for one, frame in part:
            foreign, candidates = code.look(frame)
            last = code.interval(one.ids, one.charges)
            exact = one.fits and any(n in last and np.array_equal(tiles, one.tiles) for n, _, tiles, _ in candidates)
            lost += [(len(out), frame)] if not exact and not foreign else []
            ids, text = (one.ids, code.text_of(one.ids)) if exact else ([], None)
            out.append(Reading(text, exact, 0, 0.0, ids, foreign))
        for (i, _), reading in zip(lost, code._gists(np.stack([frame for _, frame in lost])) if lost else []):
            out[i] = reading
    for reading, real in zip(out, code.read(frames[:2]), strict=False):
        if (reading.exact, reading.foreign) != (real.exact, real.foreign) or (real.exact and reading.ids != real.ids):
            raise RuntimeError(f"the short cut disagrees with reading: {reading} {real}")
    return out


def erased(pool: Pool, count: int, seed: int) -> dict:
    """Plain frames of whole texts and redundant ones of 64 tokens, a square of the frame 0, read at once and after the
    dynamics."""
    subject, code, result = pool.subject, pool.code, {}
    frames = {"whole texts": (pool.texts[:count], code.write(pool.texts[:count]))}
    short = beginnings(subject.data, min(64, subject.model.config.max_seq_len), count)
    if short:
        for kind in KINDS:
            frames[f"against {kind}, {len(short[0])} tokens"] = short, code.write(short, redundant=kind)
    print(f"a square of the frame erased, {count} texts; word for word; content words that are in what is read; in "
          "what is read of another text:")
    for name, (texts, written) in frames.items():
        said, plain = subject.say(texts), np.stack([one.frame for one in written])
        (_, square), *_ = disturbances(np.random.default_rng([seed, 3]))["erased square, share of the area"]
        for area in ERASED:
            hurt = square(plain, area)
            for when, given in (("at once", hurt), ("after the dynamics", collapse(hurt))):
                readings = read_damaged(code, written, given, f"{name}, {area:.0%} erased")
                row = result[f"{name}, {when}, {area:.2f}"] = judge_readings(texts, said, readings)
                print(f"   {name + ', ' + when:<40}{area:>5.0%}  {shown(row, 'exact_match'):<25}"
                      f"{shown(row['words'], 'mean'):<25}{row['control']['mean']:.1%}", flush=True)
    return result
