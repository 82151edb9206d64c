"""A sentence encoder as a teacher of the meaning's token vectors, before training: `train.py --teacher FOLDER`.

    passages of the training texts --teacher--> embeddings --ridge regression on the tokens' weights--> token vectors

After it, words that the teacher finds related are near, and so are texts that say the same in other words. The teacher
is a folder or hub name of a transformers encoder whose mean over tokens is the embedding, as all-MiniLM-L6-v2. It is
needed in this one step only.

Static token vectors from a sentence encoder: Model2Vec (2024); by regression on sums of words: this project.
"""

import re

import numpy as np
import torch
from torch.nn.functional import normalize

from models import WheelerTextAutoencoder
from wheeler.cli import progress
from wheeler.model.start import start_meaning
from wheeler.model.tokenizer import first_line

PASSAGES = 40_000                                                             # at most, 4 a text
SHARE = 0.4                                                                   # of a vector's square that is taught
RIDGE = 3.0


def passages(texts, count: int, seed: int = 0) -> list[str]:
    """`count` passages of one to three sentences from all over the texts."""
    rng, out = np.random.default_rng(seed), []
    for i in rng.integers(len(texts), size=count):
        sentences = re.split(r'(?<=[.!?"])\s+', texts[int(i)] or "")
        length = int(rng.integers(1, 4))
        start = int(rng.integers(0, max(1, len(sentences) - length + 1)))
        passage = " ".join(sentences[start : start + length]).strip()
        if len(passage) > 15:
            out.append(passage)
    return out


@torch.no_grad()
def embed(name: str, texts: list[str], batch_size: int = 64) -> np.ndarray:
    """(len(texts), E) float32 of norm 1. ValueError where the teacher cannot be had."""
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
    except Exception as error:                                                # as many types as libraries take part
        raise ValueError(f"--teacher {name}: it cannot be loaded ({first_line(error)})") from None
    out, order = [], sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in progress(range(0, len(order), batch_size), "teacher"):
        batch = tokenizer([texts[i] for i in order[start : start + batch_size]], padding=True, truncation=True,
                          max_length=256, return_tensors="pt")
        keep = batch["attention_mask"][..., None].float()
        out.append(normalize((model(**batch).last_hidden_state * keep).sum(1) / keep.sum(1), dim=-1))
    embeddings = np.empty((len(texts), out[0].shape[1]), np.float32)
    embeddings[order] = torch.cat(out).numpy()
    return embeddings


def bags(model: WheelerTextAutoencoder, rows: list[list[int]]):
    """Sparse matrix (len(rows), V): the weights that `Meaning.weights` gives the tokens of each text, of norm 1."""
    from scipy import sparse  # few runs have a teacher

    weight = model.meaning.weight.detach().exp().numpy()
    data, columns, offsets = [], [], [0]
    for row in rows:
        tokens, counts = np.unique([token for token in row if token != model.config.eos_token_id], return_counts=True)
        sums = weight[tokens] * np.array([np.sum(1 / np.arange(1, n + 1)) for n in counts])
        data.append(sums / max(np.linalg.norm(sums), 1e-9))
        columns.append(tokens)
        offsets.append(offsets[-1] + len(tokens))
    return sparse.csr_matrix((np.concatenate(data), np.concatenate(columns), offsets), shape=(len(rows), len(weight)))


@torch.no_grad()
def teach_meaning(model: WheelerTextAutoencoder, data, texts, name: str) -> None:
    """Let the teacher set a part of the token vectors; the rest keeps the random start, which tells words apart. data:
    the tokens of `texts`, for the constants of `start_meaning`."""
    meaning, said = model.meaning, passages(texts, min(PASSAGES, 4 * len(texts)))
    if len(said) < 2:
        raise ValueError(f"--teacher {name}: the texts have {len(said)} passages to learn from, wanted 2 or more")
    taught = embed(name, said)
    seen = bags(model, [model.tokenizer(text)["input_ids"] for text in said])
    square = (seen.T @ seen).toarray()
    square[np.diag_indices_from(square)] += RIDGE
    vectors = np.linalg.solve(square, seen.T @ (taught - taught.mean(0)))     # (V, E)
    # The directions in which texts differ most, evened out half-way: a tile shows all of them alike.
    dims = min(3 * meaning.dim // 8, vectors.shape[1])
    every = np.linspace(0, len(data) - 1, min(len(data), 4000)).astype(int)
    whole = bags(model, [data[i].tolist() for i in every]) @ vectors
    values, directions = np.linalg.eigh(np.cov(whole.T))
    directions = directions[:, -dims:] * np.maximum(values[-dims:], 1e-9) ** -0.25
    size = np.sqrt(np.square((whole - whole.mean(0)) @ directions).sum(1).mean())
    table = meaning.table.weight
    table.copy_(torch.randn_like(table) * ((1 - SHARE) / (meaning.dim - dims)) ** 0.5)
    table[:, :dims] = torch.from_numpy(vectors @ directions / size * SHARE**0.5)
    start_meaning(model, data)
