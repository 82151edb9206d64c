"""Where the language model starts: as a bigram model of the texts that it is trained on."""

import math

import numpy as np
import torch
from torch import nn

from wheeler.model.start import START_TEXTS

SMOOTHING = 100                                                               # occurrences that a frequency stands for


@torch.no_grad()
def start_language(model: nn.Module, data) -> None:
    """The language model's part of the aligned start, from the texts of `data` (a `data.TokenDataset`): it begins as a
    bigram model, the best one that two tables of d_model dimensions hold.

    The decoder's embedding of a token x and the language head of y become the factors of log p(y | x) - log p(y), by a
    singular value decomposition that counts an error by how often x and y occur (Levy and Goldberg 2014). While all
    layers still add zero, the norm before the head makes every embedding equally long. So one dimension fills each
    vector up to one length, and one, the same for all tokens, carries log p(y).

    Changes nothing without config.aligned_start.
    """
    from scipy.sparse import csr_matrix  # slow to import, and only a new model needs it
    from scipy.sparse.linalg import svds

    c, size = model.config, model.config.vocab_size
    rank = min(c.d_model - 3, size - 2)
    if not c.aligned_start or rank < 1:
        return
    counts = bigram_counts(model, data)
    before, share = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel() + 0.5
    share /= share.sum()
    pairs = counts.tocoo()
    # log of (n(x, y) + SMOOTHING p(y)) / (SMOOTHING p(y)): 0 where a pair never occurs, so that the matrix is sparse.
    # What is left out, a constant of x, the softmax takes out as well.
    gain = np.log1p(pairs.data / (SMOOTHING * share[pairs.col]))
    x_weight, y_weight = np.sqrt(before / before.sum() + 1e-7), np.sqrt(share)
    weighted = csr_matrix((gain * x_weight[pairs.row] * y_weight[pairs.col], (pairs.row, pairs.col)), counts.shape)
    left, values, right = svds(weighted, k=rank, random_state=0)
    left, right = left / x_weight[:, None] * np.sqrt(values), right.T / y_weight[:, None] * np.sqrt(values)
    norm = np.linalg.norm(left, axis=1)
    length = max(1.05 * float(np.quantile(norm, 0.99)), 1e-3)
    left *= np.minimum(1, length / np.maximum(norm, 1e-9))[:, None]
    filling = np.sqrt(np.maximum(length**2 - (left**2).sum(1), 0))
    same = 0.3 * length
    scale = math.hypot(length, same) / math.sqrt(c.d_model)                   # rms, which the norm takes out
    embedding = np.column_stack([left, np.full(size, same), filling]) / scale
    head = np.column_stack([right, np.log(share) / same, np.zeros(size)]) * scale
    # A random rotation spreads this over all dimensions but the one that the norm takes out, the mean.
    basis = torch.cat([torch.ones(c.d_model, 1), torch.randn(c.d_model, rank + 2)], 1).double()
    basis = torch.linalg.qr(basis).Q[:, 1:].T.numpy()                         # (rank + 2, D)
    # Half as long as what the grid says: then a token of the grid still wins by far.
    model.decoder.embedding.weight[:size] = torch.from_numpy(0.5 * embedding @ basis).float()
    model.decoder.language_head.weight.zero_()[:size] = torch.from_numpy(head @ basis).float()
    for layer in model.decoder.layers:
        for weight in (layer.self_attention.query_key_value.weight, layer.mlp.up.weight):
            nn.init.normal_(weight, std=0.5 * c.d_model**-0.5)


def bigram_counts(model: nn.Module, data):
    """(V, V) scipy.sparse matrix, float64: how often token y follows token x, bos before the first."""
    from scipy.sparse import csr_matrix

    c, total = model.config, None
    chosen = np.linspace(0, len(data) - 1, min(len(data), START_TEXTS)).astype(int)
    for rows in np.array_split(chosen, -(-len(chosen) // 2000)):
        ids, mask = (x.numpy() for x in data.batch(rows))
        before = np.concatenate([np.full((len(ids), 1), c.bos_token_id), ids[:, :-1]], 1)
        ones = np.ones(int(mask.sum()))
        part = csr_matrix((ones, (before[mask], ids[mask])), shape=(c.vocab_size, c.vocab_size))
        total = part if total is None else total + part
    return total
