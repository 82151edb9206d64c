"""Where training starts: a network that already copies."""

import math
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

START_TEXTS = 50_000                                                          # that a start counts tokens in


class NoDraws(TorchFunctionMode):
    """Inside, torch's layers draw no random numbers for their weights: those that a checkpoint brings need none. (The
    meta device would do that too, but its draws and copies import torch._dynamo and sympy, which take two seconds.)"""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        return function(*args, **(kwargs or {}))


@contextmanager
def in_float32():
    """Inside, and in functions that it decorates, new tensors are float32, whatever torch.set_default_dtype says."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@in_float32()
@torch.no_grad()
def init_weights(model: nn.Module) -> None:
    """Set the start of training of a WheelerTextAutoencoder. `config.aligned_start=False` gives the usual random start,
    for ablations.

    Usual: normal(0, 0.02) everywhere, residual outputs divided by sqrt(2 * layers), as GPT-2.

    Aligned: the network starts as an identity that runs from token t through patch t back to token t, so that
    training starts from copying, with attention already sharp, and not from a plateau:
    - position: text positions, patches and target positions share one random code, and in every cross-attention
      query_code = key_code = 2 Q with Q orthogonal. In a head of hd = 64 the score of equal positions is then about
      4 * 64 / sqrt(64) = 32, of different ones 0 +- 4: position t attends to patch t almost surely.
    - content: query and key start at zero, value = Q' orthogonal and out = Q'^T in the encoder's and in the
      decoder's first cross-attention, so that what is attended to arrives unchanged; out = 0 in the other ones.
    - grid: unfold has orthonormal columns (times p: cells of unit rms), fold is its transpose.
    - every other residual branch (self-attention, MLP) ends in a zero matrix.
    - vocabulary: the head is the encoder's embedding table; rows of rms 0.125 give a token 0.125 D in logits
      against 0.125 sqrt(D) of noise for the others.
    """
    c = model.config
    depth = 2 * (c.encoder_layers + c.grid_layers + c.decoder_layers + 1)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            residual_out = name.endswith((".out", "mlp.down"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(depth) if residual_out else 0.02)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
    enc, dec, meaning = model.encoder, model.decoder, model.meaning
    nn.init.normal_(meaning.table.weight, std=meaning.dim**-0.5)
    nn.init.zeros_(meaning.gate.bias)
    for code in (enc.text_code, enc.patch_code, dec.target_code, dec.patch_code, enc.patch_query, enc.blank):
        nn.init.normal_(code, std=0.02)
    if not c.aligned_start:
        return
    nn.init.normal_(dec.embedding.weight, std=0.125)
    nn.init.normal_(enc.blank, std=1.0)
    nn.init.normal_(enc.embedding.weight, std=0.125)
    code = torch.randn(max(c.max_seq_len, c.num_patches), c.d_model)
    for parameter in (enc.text_code, enc.patch_code, dec.target_code, dec.patch_code):
        parameter.copy_(code[: len(parameter)])
    nn.init.zeros_(enc.patch_query)
    for cross in (enc.cross, *(layer.cross for layer in dec.layers)):
        nn.init.orthogonal_(cross.query_code.weight, gain=2.0)
        cross.key_code.weight.copy_(cross.query_code.weight)
        nn.init.zeros_(cross.query.weight)
        nn.init.zeros_(cross.key.weight)
        nn.init.orthogonal_(cross.value.weight)
        nn.init.zeros_(cross.out.weight)
    for cross in (enc.cross, dec.layers[0].cross):
        cross.out.weight.copy_(cross.value.weight.T)
    for layer in (*enc.layers, *dec.grid_layers, *dec.layers):
        nn.init.zeros_(layer.self_attention.out.weight)
        nn.init.zeros_(layer.mlp.down.weight)
    nn.init.zeros_(enc.mlp.down.weight)
    for weight in (meaning.context.weight, meaning.inject.weight, meaning.gate.weight):
        nn.init.zeros_(weight)
    nn.init.orthogonal_(model.patches.unfold.weight, gain=c.patch_size)
    model.patches.fold.weight.copy_(model.patches.unfold.weight.T / c.patch_size**2)


@in_float32()
@torch.no_grad()
def start_meaning(model: nn.Module, data) -> None:
    """The meaning's part of the aligned start, from the texts of `data` (a `data.TokenDataset`): the less often a token
    occurs, the more it says (inverse document frequency); the prior of the evidence is the frequency itself; length and
    centre are those of the texts' sums, so that the reader's Bayes rule is right before any training.

    Changes nothing without config.aligned_start.
    """
    c, meaning = model.config, model.meaning
    if not c.aligned_start:
        return
    chosen, counts = np.linspace(0, len(data) - 1, min(len(data), START_TEXTS)).astype(int), np.zeros(c.vocab_size)
    for rows in np.array_split(chosen, -(-len(chosen) // 500)):
        ids, mask = (x.numpy() for x in data.batch(rows))                     # which looks for damaged tokens too
        for row, keep in zip(ids, mask, strict=True):
            counts[np.unique(row[keep])] += 1
    share = torch.from_numpy((counts + 0.5) / (len(chosen) + 1)).float()
    meaning.weight.fill_(math.log(-math.log(0.5 / (len(chosen) + 1))))     # never seen: as much as can be
    meaning.weight[: c.vocab_size] = (-share.log()).clamp(min=0.02).log()
    meaning.prior.fill_(torch.logit(share.min()))
    meaning.prior[: c.vocab_size] = torch.logit(share)
    sums = torch.cat([text_sum(model, data, rows) for rows in np.array_split(chosen[:: max(1, len(chosen) // 2000)], 50)
                      if len(rows)])
    meaning.length.fill_(sums.norm(dim=-1).log().mean())
    meaning.centre.copy_(nn.functional.normalize(sums, dim=-1).mean(0))


def text_sum(model: nn.Module, data, rows: np.ndarray) -> Tensor:
    """(len(rows), Dm): sums of the weighted token vectors of some texts."""
    ids, mask = data.batch(rows)
    ids, mask = ids.to(model.meaning.table.weight.device), mask.to(model.meaning.table.weight.device)
    return model.meaning.terms(ids, model.says(ids, mask)).sum(1)
