"""Where the language model starts: as a bigram model of the texts that it is trained on."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from wheeler.model.start import START_TEXTS, in_float32

SMOOTHING = 100                                                               # occurrences that a frequency stands for


@in_float32()
@torch.no_grad()
def start_language(model: nn.Module, data) -> None:
    """The language model's part of the aligned start, from the texts of `data` (a `data.TokenDataset`): it begins as a
    bigram model, the best one that two tables of d_model dimensions hold.

    The decoder's embedding of a token x and the language head of y become the factors of log p(y | x) - log p(y), by a
    singular value decomposition that counts an error by how often x and y occur (Levy and Goldberg 2014). While all
    layers still add zero, the norm before the head makes every embedding equally long. So one dimension fills each
    vector up to one length, and one, the same for all tokens, carries log p(y).

    Draws from torch's generator. Changes nothing without config.aligned_start.
    """
    c, size = model.config, model.config.vocab_size
    rank = min(c.d_model - 3, size - 2)
    if not c.aligned_start or rank < 1:
        return
    counts = bigram_counts(model, data)
    before, share = counts.sum(1).to_dense(), counts.sum(0).to_dense() + 0.5
    share /= share.sum()
    # log of (n(x, y) + SMOOTHING p(y)) / (SMOOTHING p(y)): 0 where a pair never occurs, so that the matrix is sparse.
    # What is left out, a constant of x, the softmax takes out as well.
    (x, y), count = counts.indices(), counts.values()
    gain = torch.log1p(count / (SMOOTHING * share[y]))
    x_weight, y_weight = (before / before.sum() + 1e-7).sqrt(), share.sqrt()
    weighted = torch.sparse_coo_tensor(counts.indices(), (gain * x_weight[x] * y_weight[y]).float(), counts.shape,
                                       check_invariants=False)
    left, values, right = torch.svd_lowrank(weighted, min(rank + 10, size), niter=2)
    left, values, right = (part.double() for part in (left[:, :rank], values[:rank], right[:, :rank]))
    root = torch.where(values > 1e-5 * values[0], values, 0).sqrt()           # below it all is rounding
    left, right = left / x_weight[:, None] * root, right / y_weight[:, None] * root
    length = max(1.05 * float(left.norm(dim=1).quantile(0.99)), 1e-3)
    left *= (length / left.norm(dim=1).clamp(min=1e-9)).clamp(max=1)[:, None]
    filling = (length**2 - left.square().sum(1)).clamp(min=0).sqrt()
    same = 0.3 * length
    scale = math.hypot(length, same) / math.sqrt(c.d_model)                   # rms, which the norm takes out
    embedding = torch.column_stack([left, torch.full_like(share, same), filling]) / scale
    head = torch.column_stack([right, share.log() / same, torch.zeros_like(share)]) * scale
    # A random rotation spreads this over all dimensions but the one that the norm takes out, the mean.
    basis = torch.cat([torch.ones(c.d_model, 1), torch.randn(c.d_model, embedding.shape[1])], 1).double()
    basis = torch.linalg.qr(basis).Q[:, 1:].T                                 # (rank + 2, D)
    # A quarter as long as what the grid says: then a token of the grid still wins by far.
    model.decoder.embedding.weight[:size] = (0.25 * embedding @ basis).float()
    model.decoder.language_head.weight.zero_()[:size] = (head @ basis).float()
    for layer in model.decoder.layers:
        for weight in (layer.self_attention.query_key_value.weight, layer.mlp.up.weight):
            nn.init.normal_(weight, std=0.5 * c.d_model**-0.5)


def bigram_counts(model: nn.Module, data) -> Tensor:
    """(V, V) sparse float64: how often token y follows token x, bos before the first."""
    c = model.config
    chosen = np.linspace(0, len(data) - 1, min(len(data), START_TEXTS)).astype(int)
    pairs = []
    for rows in np.array_split(chosen, -(-len(chosen) // 2000)):
        ids, mask = data.batch(rows)
        before = nn.functional.pad(ids[:, :-1], (1, 0), value=c.bos_token_id)
        pairs.append((before * c.vocab_size + ids)[mask].numpy())
    pairs, count = np.unique(np.concatenate(pairs), return_counts=True)
    place = torch.from_numpy(np.stack(np.divmod(pairs, c.vocab_size)))
    return torch.sparse_coo_tensor(place, torch.from_numpy(count).double(), (c.vocab_size,) * 2, is_coalesced=True,
                                   check_invariants=False)
