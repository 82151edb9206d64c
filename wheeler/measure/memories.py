"""Texts as memories and as cues, for the section meaning of evaluate.py: which texts, and the frames of both.

Texts are whole unseen texts shorter than max_seq_len tokens, in random order; training texts are distractors.

**Stand-ins.** Memories that are unseen texts, and all cues, are frames as `FrameCode.write` gives them. Distractors are
`FrameCode.sketch`: header, meaning tiles, number of rows of words and free rows are theirs, but random bits stand for
the words, as many as they cost, because writing words takes minutes a thousand. The salt of the code makes written
words as random: 50 distractors are written in every run, and their correlations with other frames stand in the output
beside those of their stand-ins. A stand-in is never right, so it is never decoded.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from wheeler.cli import progress
from wheeler.frame.code import FrameCode, Written
from wheeler.measure.metrics import Subject, collapse, hash_frames, rows_of
from wheeler.measure.probes import paraphrase
from wheeler.model.decoding import text_bits
from wheeler.model.inputs import padded
from wheeler.training.data import Row
from wheeler.training.scores import share
from wheeler_cpu import add_noise


def chunks(items: Sequence, size: int, what: str) -> Iterator[Sequence]:
    for start in progress(range(0, len(items), size), what):
        yield items[start : start + size]


def standardised(frames: np.ndarray) -> np.ndarray:
    """(n, ...) -> (n, cells), mean 0 and length 1 each: products of these are Pearson's correlations."""
    flat = np.asarray(frames, np.float32).reshape(len(frames), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


@torch.no_grad()
def costs(code: FrameCode, texts: Sequence[list[int]], tiles: Sequence[np.ndarray], batch_size: int = 16) -> np.ndarray:
    """(len(texts),) bits of the words, end token included, given numbers of meaning tiles, in the model's float32."""
    out, order = np.zeros(len(texts)), np.argsort([len(ids) for ids in texts], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = padded([texts[i] for i in rows], code.config.pad_token_id, code.device)
        told = map(torch.from_numpy, code.decoder.estimates([tiles[i] for i in rows]))
        estimates, counts = (x.to(code.device) for x in told)
        logits = code.model.told(ids, mask, estimates.float(), counts)
        out[rows] = text_bits(logits, ids, mask).cpu().numpy()
    return out


def first_sentences(text: str, count: int) -> str:
    """The first `count` sentences of a text, 0: all. A sentence ends with . ! or ?, and a quotation mark if one is
    there."""
    ends = [match.end() for match in re.finditer(r"[.!?]+[\"'”]?(?=\s|$)", text)] if count else []
    return text[: ends[count - 1]] if count and len(ends) >= count else text


# ---- memories -------------------------------------------------------------------------------------------------------


class Pool:
    """Texts to remember and their frames, which are written when they are asked for.

    texts: token ids, no two alike, of 4 words at least; the first `unseen` are all whole unseen texts in random order,
    then come training texts, together `most` if there are so many. said: the same as strings. sentences: of each text
    only so many, its first ones; 0: all.
    """

    def __init__(self, subject: Subject, most: int, seed: int = 0, batch_size: int = 64, sentences: int = 0):
        self.subject, self.code, self.batch_size, self.seed = subject, subject.code, batch_size, seed
        self.texts: list[Row] = []
        self.said: list[str] = []
        self.place: dict[str, int] = {}
        self.sentences = sentences
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
            rows = self.subject.tokens([first_sentences(stories[int(i)] or "", self.sentences)
                                        for i in order[start : start + 1000]])
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
                self.exact[i] = reading.exact and reading.text == self.texts[i].text
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
    rows[FIRST] = rows_of([row.text for row in pool.texts[:count]], pool.subject.model.tokenizer, 33)
    cues = {name: cue(pool, part, targets, name) for name, part in rows.items()}
    noisy = lambda frames: collapse(add_noise(frames, 0.9, rng))
    frames, tiles = pool.frames(targets)
    return cues | {NOISY: Cue(targets, None, noisy(frames), tiles, noisy(hashed_frames(pool, pool.said[:count])))}
