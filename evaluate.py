"""What a checkpoint can do, with the controls that a sceptic would ask for.

    python evaluate.py --checkpoint checkpoints/best.pt --dataset sample              # section "text"
    python evaluate.py all --checkpoint checkpoints/best.pt --dataset stories.jsonl   # every section, most of an hour
    python evaluate.py lengths disturb --dataset stories.jsonl > new.log              # some of them
    python evaluate.py --compare old.log new.log                                      # two results side by side

    text      texts read back free-running from grid, frame, attractor and code frame, by length, with controls
    lengths   how much text the attractor of a noisy code frame carries           disturb   noise, erasures, sign flips
    ticks     learned and code frames against ticks of the dynamics               picture   three texts, collapsed
    space     which cells carry which words                                       recall    frames as a memory
    geometry  interpolation and arithmetic in the grid

Paths: "grid" reads the text from the grid, "frame" from the picture alone, "attractor" from what the Wheeler dynamics
make of the picture, "code" from the attractor code of `encode_frame`. Texts: "validation" are unseen texts of the data
set, "beginnings" the same cut to 8, 16, ... tokens, "random" are words of these in random order, "unusual" are made-up
names, digits, accents, emoji, code and other scripts. Exact match: share of texts whose tokens all come back,
free-running and greedy, with a 95% Wilson interval. Token accuracy: share of reference tokens (end token counted,
padding not) that stand at their place in the output. Teacher-forced figures say so in their name. Bits are what the
decoder without a latent, as a language model, charges for a text. Tables, figures in <output_dir>, and one JSON object
as the last line. Every section is a function of a `Subject` for a notebook: `text(Subject("checkpoints/best.pt"))`.
"""

import argparse
import hashlib
import importlib
import inspect
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from data import (
    DEFAULT_DATASET,
    DataError,
    TokenDataset,
    Tokens,
    add_data_flags,
    build_dataset,
    fingerprint,
    load_texts,
    tokenize,
)
from models import WheelerTextAutoencoder, find_checkpoint, read_checkpoint
from tokenizer import tokenizer_to_dict

PATHS = ("grid", "frame", "attractor")
TEXTS = ("validation", "beginnings", "random", "unusual")
LENGTHS = (8, 16, 32, 64, 128, 256)                                           # tokens: the buckets, and the beginnings
SECTIONS = {"text": "evaluate", "lengths": "survive", "disturb": "survive", "ticks": "survive", "picture": "survive",
            "space": "probes", "recall": "probes", "geometry": "probes"}      # section, also its function -> module
MOST_TRAINING_TEXTS = 100_000                                                 # lookups and overlap go no further


def check_device(name: str | None) -> torch.device:
    """The device of that name, None: a GPU if there is one. ValueError where it cannot be used."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()
    except Exception as error:                                                # AssertionError, NotImplementedError ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise ValueError(f"--device {name}: it cannot be used here ({reason})") from None
    return device


# ---- metrics --------------------------------------------------------------------------------------------------------


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval (z = 1.96) of a share, in [0, 1]; Wilson 1927. n must be at least 1."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes in {n} tries is not a share")
    p = successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n                                                     # at the ends rounding must not show
    return (centre - half) / scale if successes else 0.0, (centre + half) / scale if successes < n else 1.0


def share(hits: Sequence[bool], name: str = "exact_match") -> dict:
    """Share of hits under `name`, its interval and n."""
    return {name: sum(hits) / len(hits), "interval": wilson_interval(int(sum(hits)), len(hits)), "n": len(hits)}


def score(references: Sequence[Sequence[int]], predictions: Sequence[Sequence[int]]) -> dict:
    """Exact match with its interval, and token accuracy over the reference tokens, of texts as token ids."""
    exact = sum(list(r) == list(p) for r, p in zip(references, predictions, strict=True))
    right = sum(a == b for r, p in zip(references, predictions, strict=True) for a, b in zip(r, p, strict=False))
    return {"n": len(references), "exact_match": exact / len(references),
            "interval": wilson_interval(exact, len(references)), "token_accuracy": right / sum(map(len, references))}


def text_scores(references: Sequence[str], predictions: Sequence[str]) -> dict:
    """Levenshtein distance in characters over the longer length, 0 (equal) to 1, mean over the texts; corpus BLEU,
    0 to 100, with the signature that says how it was computed."""
    from rapidfuzz.distance import Levenshtein
    from sacrebleu.metrics import BLEU

    bleu = BLEU(force=True)                                                   # force: no hint about tokenised input
    pairs = zip(references, predictions, strict=True)
    return {"edit_distance": float(np.mean([Levenshtein.normalized_distance(r, p) for r, p in pairs])),
            "bleu": bleu.corpus_score(list(predictions), [list(references)]).score,
            "bleu_signature": str(bleu.get_signature())}


def measure(references: Sequence[list[int]], predictions: Sequence[list[int]], tokenizer,
            bits: np.ndarray | None = None) -> dict:
    """score and text_scores of token ids, and, where the texts' bits are given, `text_bits`, their mean, and
    `bits_retained`, the same with those of texts that did not come back exactly counted as 0."""
    say = lambda rows: [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
    result = score(references, predictions) | text_scores(say(references), say(predictions))
    if bits is not None:
        exact = np.array([list(r) == list(p) for r, p in zip(references, predictions, strict=True)])
        result |= {"text_bits": float(bits.mean()), "bits_retained": float((bits * exact).mean())}
    return result


def collapse(frames, ticks: int | None = None):
    """Frames (B, H, W), tensor or array, after `ticks` ticks of the Wheeler dynamics; None: their attractors."""
    from wheeler_torch import settle  # compiles with numba: only where it is asked for

    if ticks == 0:
        return frames
    final = settle(torch.as_tensor(frames), ticks=ticks)[0]
    return final if isinstance(frames, torch.Tensor) else final.numpy()


# ---- reading texts back ---------------------------------------------------------------------------------------------


class TokenRows(Tokens):
    """Lists of token ids in the shape of a TokenDataset. special_ids: bos, eos, pad."""

    def __init__(self, rows: Sequence[Sequence[int]], special_ids: Sequence[int]):
        self.rows, self.special_ids = [np.asarray(row, dtype=np.int64) for row in rows], special_ids
        self.lengths = np.array([len(row) for row in self.rows])
        self.buckets = sorted(set(self.lengths.tolist()))
        self.vocab_size = 1 + max((int(row.max()) for row in self.rows), default=0)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.rows[i]


def evenly(count: int, n: int) -> np.ndarray:
    """n indices from all over range(count); all of them if n is -1 or more than there are."""
    return np.linspace(0, count - 1, count if n < 0 else min(n, count)).astype(int)


def beginnings(data: TokenDataset, length: int, n: int) -> list[list[int]]:
    """The first length - 1 tokens and the end token of n texts that have so many, from all over the data."""
    long_enough = np.flatnonzero(data.lengths >= length)
    chosen = long_enough[evenly(len(long_enough), n)]
    return [[*data[i][: length - 1].tolist(), data.special_ids[1]] for i in chosen]


@torch.no_grad()
def reconstruct(model: WheelerTextAutoencoder, data: TokenDataset, indices: Sequence[int], path: str = "grid",
                batch_size: int = 64, progress: bool = False) -> tuple[list[list[int]], list[list[int]]]:
    """(references, predictions) of the texts `data[i]`, as token ids, closed by the end token if there is one."""
    if path not in PATHS:
        raise ValueError(f"path = {path!r} must be one of {', '.join(PATHS)}")
    device, limit, eos = model.encoder.embedding.weight.device, model.config.max_seq_len, model.config.eos_token_id
    references, predictions = [], []
    by_length = sorted(indices, key=lambda i: int(data.lengths[i]))           # decoding stops at the longest of a batch
    starts = range(0, len(by_length), batch_size)
    for start in tqdm(starts, desc=f"reading the {path}", disable=not progress, leave=False):
        rows = by_length[start : start + batch_size]
        ids, mask = data.batch(rows)
        grid = model.encode(ids.to(device), mask.to(device))
        if path != "grid":
            frame = model.get_grid_as_image(grid)
            grid = model.set_grid_from_image(collapse(frame) if path == "attractor" else frame)
        references += [data[i].tolist() for i in rows]
        predictions += closed(model.decode(grid, return_ids=True), limit, eos)
    order = np.argsort(np.argsort([int(data.lengths[i]) for i in indices], kind="stable"), kind="stable")
    return [references[i] for i in order], [predictions[i] for i in order]


def closed(rows: list[list[int]], limit: int, eos: int) -> list[list[int]]:
    """Decoded rows with the end token that decode leaves out: where a row is shorter than the limit it was there."""
    return [row + [eos] if len(row) < limit else row for row in rows]


def reconstruct_code(code, texts: Sequence[list[int]], batch_size: int = 64) -> tuple[list[list[int]], list[bool]]:
    """(predictions, fits) of texts written into code frames and read from these. Frames with a failing checksum give
    what was read without its end token, which is not the text, whatever it is."""
    frames, fits = code.write(texts)
    order, predictions = np.argsort([len(text) for text in texts], kind="stable"), [[]] * len(texts)
    for start in tqdm(range(0, len(order), batch_size), desc="reading the code", leave=False):
        rows = order[start : start + batch_size]
        for i, (ids, intact) in zip(rows, code.read(frames[rows]), strict=True):
            predictions[i] = ids if intact or ids[-1:] != [code.config.eos_token_id] else ids[:-1]
    return predictions, fits


@torch.no_grad()
def teacher_forced(model: WheelerTextAutoencoder, data: TokenDataset, indices: Sequence[int], path: str = "grid",
                   batch_size: int = 64) -> dict:
    """Loss (nats a token) and token accuracy when every token is predicted from the true ones before it, and from the
    grid, the frame, its attractor or nothing (path "blank")."""
    device = model.encoder.embedding.weight.device
    loss = right = count = 0
    for start in range(0, len(indices), batch_size):
        ids, mask = (x.to(device) for x in data.batch(indices[start : start + batch_size]))
        logits, _ = model(ids, mask, frame_rows=len(ids) if path in ("frame", "attractor") else 0,
                          blank_rows=len(ids) if path == "blank" else 0,
                          dynamics=collapse if path == "attractor" else None)
        target = ids[mask]
        loss += F.cross_entropy(logits[mask].float(), target, reduction="sum").item()
        right += (logits[mask].argmax(-1) == target).sum().item()
        count += len(target)
    return {"teacher_forced_loss": loss / count, "teacher_forced_token_accuracy": right / count}


@torch.no_grad()
def language_model_bits(model: WheelerTextAutoencoder, data: TokenDataset, indices: Sequence[int],
                        batch_size: int = 64) -> np.ndarray:
    """(len(indices),) float64: bits that the decoder without a latent charges for each text, end token included."""
    device, bits = model.encoder.embedding.weight.device, np.zeros(len(indices))
    order = np.argsort(data.lengths[indices], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = (x.to(device) for x in data.batch([indices[i] for i in rows]))
        logits, _ = model(ids, mask, blank_rows=len(ids))
        nats = F.cross_entropy(logits.float().transpose(1, 2), ids, reduction="none") * mask
        bits[rows] = nats.double().sum(1).cpu().numpy() / math.log(2)
    return bits


def probe_texts(kind: str, n: int, stories: Sequence[str], seed: int = 0) -> list[str]:
    """n texts unlike any story: "random" draws 5 to 30 words of the stories in random order, "unusual" 3 to 12 pieces
    that are made-up names, numbers, accented words, emoji, other scripts and code."""
    rng = np.random.default_rng([seed, ("random", "unusual").index(kind)])
    if kind == "random":
        words = sorted({word for story in stories for word in (story or "").split()})
        if not words:
            raise ValueError("the data set has no words to draw random texts from")
        return [" ".join(rng.choice(words, rng.integers(5, 31))) for _ in range(n)]

    def name() -> str:
        return "".join(rng.choice(list("bcdfghjklmnprstvwz")) + rng.choice(list("aeiouy"))
                       for _ in range(rng.integers(2, 5))).title()

    def accented() -> str:
        return "".join(rng.choice(list("abcdefghiklmnoprstuvàáâãäåçèéêëìíîïñòóôõöùúûüýÿžščřłßøæ"))
                       for _ in range(rng.integers(3, 9)))

    makers = (name, accented, lambda: str(rng.integers(10 ** rng.integers(1, 7))),
              lambda: str(rng.choice(list("😀🐉🌧🦊🍎🚀👑🐢❤🎈🧸🦄"))),
              lambda: f"x_{rng.integers(99)} = f({name().lower()})",
              lambda: "".join(rng.choice(list("абвгдежзиклмнопрстуф"), rng.integers(3, 7))),
              lambda: "".join(rng.choice(list("日月山川田人口車門火水木金土"), rng.integers(1, 4))))
    return [" ".join(makers[rng.integers(len(makers))]() for _ in range(rng.integers(3, 13))) for _ in range(n)]


# ---- what is measured -----------------------------------------------------------------------------------------------


class Subject:
    """A checkpoint and the texts that it is measured on.

    model; flags: those of its training ({} if the file has none); stories: the validation texts as strings; data: the
    same as a TokenDataset; training: the training split of the data set in the same tokens. Raises ValueError and
    FileNotFoundError that say what is wrong.
    """

    def __init__(self, checkpoint: str = "checkpoints/best.pt", dataset: str = DEFAULT_DATASET,
                 text_column: str = "text", long_texts: str = "cut", cache_dir: str = "data/cache",
                 device: str | None = None):
        self.dataset, self.text_column = dataset, text_column
        self.long_texts, self.cache_dir, self.device = long_texts, cache_dir, check_device(device)
        found = find_checkpoint(checkpoint)                                   # may be the folder of a packed model
        self.model = WheelerTextAutoencoder.load_from_checkpoint(checkpoint, self.device)
        if self.model.tokenizer is None:
            raise ValueError(f"--checkpoint {checkpoint}: it has no tokenizer")
        self.checkpoint = str(found)
        self.training_state = {} if found.is_dir() else read_checkpoint(found).get("training") or {}
        self.flags = self.training_state.get("flags", {})
        self.stories = load_texts(dataset, "validation", text_column)
        self.data = self._dataset(self.stories)

    def _dataset(self, texts: Sequence[str]) -> TokenDataset:
        return build_dataset(texts, self.model.tokenizer, self.model.config.max_seq_len, self.cache_dir,
                             self.long_texts)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, each cut to max_seq_len and closed by the end token; empty texts are left out."""
        return [ids.tolist() for ids, _ in tokenize(texts, self.model.tokenizer, self.model.config.max_seq_len, "cut")]

    @cached_property
    def training_stories(self) -> list[str]:
        """The training texts of the data set, the first 100,000 at most."""
        return first_texts(self.dataset, self.text_column)

    @cached_property
    def training(self) -> TokenDataset:
        return self._dataset(self.training_stories)

    @property
    def has_attractor_path(self) -> bool:
        return self.flags.get("attractor_share", 0) > 0

    @property
    def has_code(self) -> bool:
        side = self.model.config.grid_size
        return side >= 4

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that were trained, and the code frame."""
        return ("grid", "frame", *["attractor"] * self.has_attractor_path, *["code"] * self.has_code)

    @cached_property
    def code(self):
        from wheeler_code import FrameCode

        return FrameCode(self.model)

    def rows(self, texts: Sequence[list[int]]) -> TokenRows:
        c = self.model.config
        return TokenRows(texts, (c.bos_token_id, c.eos_token_id, c.pad_token_id))

    def beginnings(self, length: int, n: int) -> list[list[int]]:
        """Unseen texts cut to `length` tokens, or to max_seq_len where that is less; see `beginnings`."""
        length = min(length, self.model.config.max_seq_len)
        texts = beginnings(self.data, length, n)
        if not texts:
            raise ValueError(f"--length {length}: the longest unseen text has {self.data.lengths.max()} tokens")
        return texts

    def say(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Token ids as texts."""
        return [self.model.tokenizer.decode(row, skip_special_tokens=True) for row in rows]

    @torch.no_grad()
    def frames(self, texts: Sequence[list[int]], batch_size: int = 64) -> np.ndarray:
        """The learned frames (n, H, W) float32 of token ids."""
        data, out = self.rows(texts), []
        for start in tqdm(range(0, len(data), batch_size), desc="encoding", leave=False):
            ids, mask = data.batch(range(start, min(start + batch_size, len(data))))
            out.append(self.model.get_grid_as_image(self.model.encode(ids.to(self.device), mask.to(self.device))).cpu())
        return torch.cat(out).numpy()

    @torch.no_grad()
    def read_frames(self, frames: np.ndarray, length: int, batch_size: int = 64, known: dict | None = None,
                    desc: str = "reading frames") -> list[list[int]]:
        """What the decoder reads in learned frames (n, H, W), `length` tokens at most; equal frames are read once.
        known: frames read before, as this function leaves it; for frames of the same length."""
        known = {} if known is None else known
        keys = [hashlib.sha1(np.ascontiguousarray(frame)).digest() for frame in frames]
        new = list({key: i for i, key in enumerate(keys) if key not in known}.values())
        for start in tqdm(range(0, len(new), batch_size), desc=desc, leave=False):
            rows = new[start : start + batch_size]
            grid = self.model.set_grid_from_image(torch.from_numpy(frames[rows]).to(self.device))
            out = closed(self.model.decode(grid, return_ids=True, max_length=length), length,
                         self.model.config.eos_token_id)
            known |= zip([keys[i] for i in rows], out, strict=True)
        return [known[key] for key in keys]

    def identity(self) -> dict:
        """What a figure belongs to. Results compare only where `data` and `tokenizer` are equal."""
        from run_folder import git_commit

        digest = lambda raw: hashlib.sha256(raw).hexdigest()[:16]
        return {"checkpoint": self.checkpoint, "weights": self.model.fingerprint(),
                "step": self.training_state.get("step"), "dataset": self.dataset,
                "texts_fingerprint": fingerprint(self.stories)[:16], "data": self.data.content[:16],
                "tokenizer": digest(json.dumps(tokenizer_to_dict(self.model.tokenizer)).encode()),
                "long_texts": self.long_texts, "max_seq_len": self.model.config.max_seq_len, "commit": git_commit()}


def first_texts(dataset: str, text_column: str) -> list[str]:
    """The training texts of a data set, the first MOST_TRAINING_TEXTS at most; says aloud when there are more."""
    texts = load_texts(dataset, "train", text_column)
    if len(texts) > MOST_TRAINING_TEXTS:
        print(f"note        lookups and overlap take the first {MOST_TRAINING_TEXTS:,} of the {len(texts):,} training "
              f"texts of {dataset}")
    return list(texts[:MOST_TRAINING_TEXTS])


def overlap(texts: Sequence[str], training: Iterable[str], shingle: int = 5) -> dict:
    """How many of the texts stand in the training texts: `exact`, letter by letter, blanks and case aside; `near`, at
    least half of a text's runs of `shingle` words occur in one training text. Runs are hashed into 2^20 buckets."""
    from sklearn.feature_extraction.text import HashingVectorizer

    plain = lambda text: " ".join((text or "").lower().split())
    texts, training = [plain(t) for t in texts], [plain(t) for t in training]
    vectorizer = HashingVectorizer(ngram_range=(shingle, shingle), binary=True, norm=None, alternate_sign=False,
                                   token_pattern=r"\S+", lowercase=False, dtype=np.float32)
    mine = vectorizer.transform(texts)
    total, best = np.diff(mine.indptr), np.zeros(len(texts))
    for start in tqdm(range(0, len(training), 5000), desc="looking for duplicates", unit="5k texts", leave=False):
        common = (mine @ vectorizer.transform(training[start : start + 5000]).T).max(axis=1).toarray().ravel()
        best = np.maximum(best, common)
    known = set(training)
    exact = np.array([text in known for text in texts])
    return {"n": len(texts), "training_texts": len(training), "exact": int(exact.sum()),
            "near": int(((best >= 0.5 * total) & (total > 0) & ~exact).sum())}


def check_overlap(subject: Subject) -> dict:
    """overlap() of at most 1,000 evaluation texts with what the checkpoint was trained on; prints what it finds. A
    checkpoint that does not say (a packed one): with the training texts of the data set it is measured on."""
    name, known = subject.flags.get("dataset", subject.dataset), bool(subject.flags)
    if not known or subject.flags.get("init_from"):
        print(f"warning     the checkpoint does not say {'all that' if known else 'what'} it was trained on: only the "
              f"training texts of {name} are looked through")
    try:
        training = subject.training_stories if name == subject.dataset else first_texts(
            name, subject.flags.get("text_column", "text"))
    except DataError as error:
        print(f"warning     overlap with the training texts was not checked: {error}")
        return {"training": name, "checked": False}
    found = overlap([subject.stories[int(i)] for i in evenly(len(subject.stories), 1000)], training)
    line = (f"{found['exact']} exact and {found['near']} near duplicates of the {found['training_texts']:,} training "
            f"texts ({name}) among {found['n']:,} evaluation texts")
    print(f"{'warning' if found['exact'] + found['near'] else 'overlap':<12}{line}")
    return found | {"training": name, "checked": known and not subject.flags.get("init_from")}


# ---- controls -------------------------------------------------------------------------------------------------------


def hash_frames(texts: Sequence[str], height: int, width: int) -> np.ndarray:
    """(n, H, W) float32: frames as the public Wheeler Memory makes them, uniform in [-1, 1] from a generator (PCG64)
    whose seed is the first 8 bytes of the text's sha256. They say nothing of what a text says."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
             for text in texts]
    return np.stack([np.random.Generator(np.random.PCG64(seed)).uniform(-1, 1, (height, width)).astype(np.float32)
                     for seed in seeds])


def hash_memory(texts: Sequence[str], height: int, width: int):
    """A WheelerMemory of the attractors of the texts' hash frames, each under its text."""
    from wheeler_memory import WheelerMemory

    memory = WheelerMemory(width, height)
    for start in tqdm(range(0, len(texts), 1000), desc="hash frames", leave=False, disable=len(texts) < 2000):
        part = list(texts[start : start + 1000])
        memory.remember(hash_frames(part, height, width), part)
    return memory


def nearest_by_words(texts: Sequence[str], memories: Sequence[str]) -> list[int]:
    """For each text the index of the memory with the largest cosine of TF-IDF word vectors (fitted on the memories)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"\S+", dtype=np.float32)
    known = vectorizer.fit_transform(memories)
    return np.asarray((vectorizer.transform(texts) @ known.T).argmax(axis=1)).ravel().tolist()


@torch.no_grad()
def blank_prediction(subject: Subject, path: str) -> list[int]:
    """What is read where nothing was written: a grid or frame of zeros, a code frame of +1."""
    c = subject.model.config
    if path == "code":
        return subject.code.read(np.ones((1, c.grid_size, c.grid_size), np.float32))[0][0]
    grid = torch.zeros(1, c.grid_size, c.grid_size, c.d_model, device=subject.device)
    if path != "grid":
        grid = subject.model.set_grid_from_image(grid[..., 0])
    return closed(subject.model.decode(grid, return_ids=True), c.max_seq_len, c.eos_token_id)[0]


def lookups(subject: Subject, references: Sequence[list[int]], lookup_samples: int = 512,
            batch_size: int = 64) -> dict[str, list[list[int]]]:
    """Predictions of readers that only know the training texts: what each would answer for the texts."""
    from wheeler_memory import _distances, pack

    side, training, texts = subject.model.config.grid_size, subject.training, subject.say(references)
    rows = [training[int(i)].tolist() for i in evenly(len(training), lookup_samples)]
    signs, cues = (pack(subject.frames(x, batch_size)) for x in (rows, references))
    distance = np.empty((len(cues), len(signs)), np.int32)
    _distances(signs, cues, distance)
    row_of = {text: i for i, text in enumerate(subject.say(training[i] for i in range(len(training))))}
    known = list(row_of)
    memory, found = hash_memory(known, side, side), []
    for start in range(0, len(texts), batch_size):
        found += [r[0].text for r in memory.recall(hash_frames(texts[start : start + batch_size], side, side), k=1)]
    answers = {f"nearest of {len(rows)} training frames (Hamming distance of signs)": [rows[i] for i in
                                                                                       distance.argmin(1)]}
    for name, nearest in (("training texts (TF-IDF of the text itself)", [known[i] for i in
                                                                         nearest_by_words(texts, known)]),
                          ("hash frames of training texts (attractors)", found)):
        answers[f"nearest of {len(known):,} {name}"] = [training[row_of[text]].tolist() for text in nearest]
    return answers


# ---- section text ---------------------------------------------------------------------------------------------------


def chosen_texts(subject: Subject, kind: str, num_samples: int = 200, seed: int = 0) -> TokenDataset:
    """The texts of a kind of TEXTS; for "beginnings" num_samples of each length, else num_samples (-1: all)."""
    if kind == "validation":
        return subject.rows([subject.data[int(i)].tolist() for i in evenly(len(subject.data), num_samples)])
    if kind == "beginnings":
        return subject.rows([row for length in LENGTHS if length <= subject.model.config.max_seq_len // 2
                             for row in beginnings(subject.data, length, num_samples)])
    n = len(subject.stories) if num_samples < 0 else num_samples
    return subject.rows(subject.tokens(probe_texts(kind, n, subject.stories, seed)))


def text(subject: Subject, texts: Sequence[str] = TEXTS, paths: Sequence[str] | None = None, num_samples: int = 200,
         lookup_samples: int = 512, batch_size: int = 64, seed: int = 0, output_dir: str = "assets") -> dict:
    """Section text: {"texts": {"kind/path": figures}, "by_length": {"kind/path/<= tokens": ...}, "controls": ...}."""
    result = {"texts": {}, "by_length": {}, "controls": {}}
    tokenizer = subject.model.tokenizer
    for kind in texts:
        data = chosen_texts(subject, kind, num_samples, seed)
        if not len(data):
            print(f"no texts of the kind {kind}")
            continue
        indices = list(range(len(data)))
        bits, controls = language_model_bits(subject.model, data, indices, batch_size), {}
        references = [data[i].tolist() for i in indices]
        bucket = [next((b for b in LENGTHS if n <= b), subject.model.config.max_seq_len) for n in data.lengths]
        for path in paths or subject.paths:
            if path == "code":
                predictions, fits = reconstruct_code(subject.code, references, batch_size)
                row = measure(references, predictions, tokenizer, bits) | {"fits": sum(fits) / len(fits)}
            else:
                predictions = reconstruct(subject.model, data, indices, path, batch_size, progress=True)[1]
                row = measure(references, predictions, tokenizer, bits)
                row |= teacher_forced(subject.model, data, indices, path, batch_size)
            if kind == "beginnings":                                          # the same stories at every length
                stories = int(np.unique(data.lengths, return_counts=True)[1].max())
                row["interval"] = wilson_interval(round(row["exact_match"] * stories), stories)
            result["texts"][f"{kind}/{path}"] = row | {"mean_tokens": float(data.lengths.mean())}
            for most in sorted(set(bucket)):
                rows = [i for i in indices if bucket[i] == most]
                result["by_length"][f"{kind}/{path}/{most}"] = score([references[i] for i in rows],
                                                                     [predictions[i] for i in rows])
            if kind == "validation":
                # Reading looks at the latent alone: from shuffled latents the same texts are read, shuffled.
                controls |= {f"{path}, blank": [blank_prediction(subject, path)] * len(data),
                             f"{path}, shuffled": predictions[-1:] + predictions[:-1]}
        if kind == "validation":
            controls |= lookups(subject, references, lookup_samples, batch_size)
            result["controls"] = {name: measure(references, p, tokenizer) for name, p in controls.items()}
            seen = {tuple(subject.training[i].tolist()) for i in range(len(subject.training))}
            result["controls"][f"any lookup in {len(subject.training):,} training texts, at most"] = share(
                [tuple(r) in seen for r in references])
        print_text(result, kind)
    plot_text(result, output_dir)
    return result


def print_text(result: dict, kind: str) -> None:
    """The tables of one kind of texts."""
    interval = lambda r: f"{r['exact_match']:>7.2%} ({r['interval'][0]:.2%} - {r['interval'][1]:.2%})"
    rows = {name: r for name, r in result["texts"].items() if name.startswith(kind + "/")}
    print(f"{'texts / read from':<20} {'n':>5} {'tokens':>6}  {'exact match (95%)':<26} {'tokens right':>12} "
          f"{'edit dist.':>10} {'BLEU':>6} {'bits kept, of':>15}  teacher-forced: accuracy, loss")
    for name, r in rows.items():
        forced = (f"{r['teacher_forced_token_accuracy']:.3%}, {r['teacher_forced_loss']:.4f} nats a token"
                  if "teacher_forced_loss" in r else f"-   ({r['fits']:.1%} of the texts fit)")
        print(f"{name:<20} {r['n']:>5} {r['mean_tokens']:>6.1f}  {interval(r):<26} {r['token_accuracy']:>12.3%} "
              f"{r['edit_distance']:>10.4f} {r['bleu']:>6.2f} {r['bits_retained']:>7.0f}, {r['text_bits']:>6.0f}  "
              f"{forced}")
    by_length = {name: r for name, r in result["by_length"].items() if name.startswith(kind + "/")}
    if len({name.split("/")[2] for name in by_length}) > 1:
        for name, r in by_length.items():
            _, path, most = name.split("/")
            print(f"   {path:<10} up to {most:>3} tokens {r['n']:>5}  {interval(r):<26} {r['token_accuracy']:>12.3%}")
    if kind == "validation":
        print(f"BLEU: {next(iter(rows.values()))['bleu_signature']}\ncontrols on these texts:")
        for name, r in result["controls"].items():
            more = f" {r['token_accuracy']:>9.2%} {r['edit_distance']:>10.4f}" if "token_accuracy" in r else ""
            print(f"   {name:<66} {interval(r):<26}{more}")
    sys.stdout.flush()


def plot_text(result: dict, output_dir: str) -> None:
    """Exact match by length, with the controls that any reader could reach."""
    points = {}
    for name, r in result["by_length"].items():
        kind, path, most = name.split("/")
        if kind in ("beginnings", "validation"):
            points.setdefault((kind, path), []).append((int(most), r))
    if not points:
        return
    figure = new_figure(7, 4)
    axis = figure.subplots()
    for i, path in enumerate(dict.fromkeys(path for _, path in points)):
        for kind, style in (("beginnings", "o-"), ("validation", "s--")):
            if (kind, path) in points:
                x, rows = zip(*sorted(points[kind, path], key=lambda p: p[0]), strict=True)
                low, high = zip(*(r["interval"] for r in rows), strict=True)
                y = [r["exact_match"] for r in rows]
                x = [value * (1 + 0.03 * i) for value in x]                   # side by side, not on top of each other
                axis.errorbar(x, y, [np.subtract(y, low), np.subtract(high, y)], fmt=style, color=f"C{i}", ms=4,
                              capsize=2, label=f"{path}, {'whole texts' if kind == 'validation' else kind}")
    ticks = sorted({most for rows in points.values() for most, _ in rows})
    axis.set(xscale="log", xticks=ticks, xticklabels=ticks, xlabel="tokens, up to", ylabel="exact match, free-running",
             ylim=(-0.03, 1.03), title="Unseen texts read back (95% intervals)")
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_figure(figure, output_dir, "evaluate_text")


def new_figure(width: float, height: float):
    """A matplotlib Figure (inches) without a window or global state, for scripts and notebooks."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure, output_dir: str, name: str, dpi: int = 110) -> None:
    path = Path(output_dir) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    print(f"wrote {path}", flush=True)


# ---- comparing results ----------------------------------------------------------------------------------------------


def read_result(path: str) -> dict:
    """The JSON object in the last line of a file that holds the output of this program."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8").strip().splitlines()[-1])
        if not {"identity", "options", "results"} <= result.keys():
            raise ValueError
    except (ValueError, IndexError, AttributeError):
        raise ValueError(f"--compare {path}: its last line is not a result of evaluate.py") from None
    return result


def figures(result: dict, name: str = "") -> dict[str, dict]:
    """The rows of a result that hold a share with its interval, by their names, "section/.../row"."""
    own = {name: result} if "interval" in result else {}
    return own | {key: row for part, value in result.items() if isinstance(value, dict)
                  for key, row in figures(value, f"{name}/{part}" if name else part).items()}


def compare(paths: Sequence[str]) -> dict:
    """Print results side by side; ValueError where they do not measure the same thing."""
    results = [read_result(path) for path in paths]
    first = results[0]
    for path, other in zip(paths[1:], results[1:], strict=True):
        for key in ("data", "tokenizer", "long_texts", "max_seq_len"):
            if first["identity"][key] != other["identity"][key]:
                raise ValueError(f"--compare: {paths[0]} and {path} cannot be compared: {key} is "
                                 f"{first['identity'][key]} and {other['identity'][key]}")
        for key in sorted(first["options"].keys() & other["options"].keys()):
            a, b = first["options"][key], other["options"][key]
            if a != b and not key.endswith((".batch_size", ".output_dir")):
                raise ValueError(f"--compare: {paths[0]} and {path} cannot be compared: {key} is {a} and {b}")
    print("\n".join(f"[{i}] {path}: " + ", ".join(f"{k} {r['identity'][k]}" for k in (
        "checkpoint", "weights", "step", "commit")) for i, (path, r) in enumerate(zip(paths, results))))
    rows = [figures(r["results"]) for r in results]
    common = [name for name in rows[0] if all(name in r for r in rows[1:])]
    if not common:
        raise ValueError(f"--compare: {', '.join(paths)} have no figure in common")
    table = {}
    for name in common:
        values = [r[name] for r in rows]
        metric = next(key for key in ("exact_match", "recall_at_1") if key in values[0])
        table[name] = [v[metric] for v in values]
        apart = any(a["interval"][0] > b["interval"][1] for a in values for b in values)
        print(f"{name:<90.90} " + "  ".join(
            f"{v[metric]:>7.2%} ({v['interval'][0]:>6.1%} - {v['interval'][1]:>6.1%})" for v in values) +
            ("  intervals apart" if apart else ""))
    return table


# ---- the command ----------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: parser.exit(2, f"evaluate.py: {message}\n")                 # one line, no usage
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}, all; default: text")
    add_data_flags(parser, training=False)
    parser.add_argument("--checkpoint", default="checkpoints/best.pt", help="file that train.py wrote, or folder")
    parser.add_argument("--compare", nargs="+", metavar="RESULT", help="print results side by side: files with the "
                        "output of this program; refused where they do not measure the same thing")
    parser.add_argument("--device", default=None, help="cpu, cuda ...; default: a GPU if there is one")
    parser.add_argument("--output_dir", default="figures", help="folder for the figures")
    parser.add_argument("--batch_size", type=int, default=64, help="texts read at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of random texts and disturbances")
    group = parser.add_argument_group("what the sections measure; default: each section's own, see its function")
    option = lambda name, text, **more: group.add_argument(f"--{name}", default=None, help=text, **more)
    option("num_samples", "texts (of each kind, of each length), -1 = all", type=int)
    option("texts", "kinds of texts (text)", nargs="+", choices=TEXTS)
    option("paths", "what the text is read from (text); default: what was trained, and code", nargs="+",
           choices=(*PATHS, "code"))
    option("lookup_samples", "training texts whose frames are looked up (text)", type=int)
    option("lengths", "tokens (lengths)", type=int, nargs="+")
    option("length", "tokens (disturb, ticks, picture, space, recall, geometry)", type=int)
    option("learned_samples", "of the texts, those whose learned frames are read too (disturb)", type=int)
    option("square", "side of the square that is hidden, cells (space)", type=int)
    option("memories", "numbers of texts remembered (recall)", type=int, nargs="+")
    return parser


OPTIONS = ("num_samples", "texts", "paths", "lookup_samples", "lengths", "length", "learned_samples", "square",
           "memories")


def section_function(name: str):
    """The function of a section; its module is imported now."""
    return globals()[name] if SECTIONS[name] == "evaluate" else getattr(importlib.import_module(SECTIONS[name]), name)


def check_flags(args: argparse.Namespace, functions: dict) -> None:
    """ValueError that names the flag, its value and its limit."""
    for name, low in (("num_samples", 1), ("lookup_samples", 1), ("learned_samples", 0), ("batch_size", 1),
                      ("seed", 0), ("square", 1), ("length", 2)):
        value = getattr(args, name)
        if value is not None and value < low and (name, value) != ("num_samples", -1):
            raise ValueError(f"--{name} {value} must be at least {low}{', or -1' * (name == 'num_samples')}")
    for name, low in (("lengths", 2), ("memories", 1)):
        for value in getattr(args, name) or ():
            if value < low:
                raise ValueError(f"--{name} {value} must be at least {low}")
    for name in OPTIONS:
        if getattr(args, name) is not None and not any(name in inspect.signature(f).parameters
                                                       for f in functions.values()):
            raise ValueError(f"--{name} means nothing to {', '.join(functions)}")


def check_lengths(args: argparse.Namespace, limit: int) -> None:
    for value in (*(args.lengths or ()), *([args.length] if args.length else ())):
        if value > limit:
            raise ValueError(f"lengths must be in 2 .. max_seq_len = {limit}, not {value}")


def main(argv: list[str] | None = None) -> int:
    args, results, options, code = build_parser().parse_intermixed_args(argv), {}, {}, 0
    try:
        if args.compare:
            print(json.dumps(compare(args.compare)))
            return 0
        names = list(dict.fromkeys(args.sections or ["text"]))
        for name in names:
            if name not in (*SECTIONS, "all"):
                raise ValueError(f"no section {name!r}; there are {', '.join(SECTIONS)} and all")
        functions = {name: section_function(name) for name in (SECTIONS if "all" in names else names)}
        check_flags(args, functions)
        try:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--output_dir {args.output_dir}: cannot be written ({error.strerror})") from None
        subject = Subject(args.checkpoint, args.dataset, args.text_column, args.long_texts, args.cache_dir, args.device)
        check_lengths(args, subject.model.config.max_seq_len)
        identity = subject.identity()
        print(f"checkpoint  {identity['checkpoint']}, weights {identity['weights']}, step {identity['step']}\n"
              f"data        {args.dataset}: {len(subject.data):,} unseen texts, fingerprint {identity['data']}, "
              f"tokenizer {identity['tokenizer']}\ncommit      {identity['commit']}, seed {args.seed}", flush=True)
        found = check_overlap(subject)
        for name, function in functions.items():
            known = inspect.signature(function).parameters
            given = {key: value for key, value in vars(args).items() if key in known and value is not None}
            print(f"---- {name}", flush=True)
            start = time.monotonic()
            try:
                results[name] = function(subject, **given)
            except (ValueError, OSError) as error:                            # the other sections are worth having
                print(f"evaluate.py: {name}: {error}", file=sys.stderr)
                code = 2
                continue
            options |= {f"{name}.{key}": value.default for key, value in known.items() if key != "subject"}
            options |= {f"{name}.{key}": value for key, value in given.items()}
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("evaluate.py: stopped", file=sys.stderr)
        code = 130
    except (ValueError, OSError) as error:                                    # others are bugs and keep their traceback
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    if results:                                                               # also when stopped: of what was finished
        print(json.dumps({"identity": identity, "seed": args.seed, "overlap": found, "options": options,
                          "results": results}, allow_nan=False))
    return code


if __name__ == "__main__":
    sys.exit(main())
