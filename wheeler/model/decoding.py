"""Text token by token: what a decoder charges, the choice of a token, decoding that meaning tiles tell.

Letters: B batch, T text tokens, V vocabulary, Dm meaning_dim.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wheeler.model.layers import column_major

GIST_TRUST = 1.5        # of a gist in its tiles: it tells more of the text than at 1, and is still fluent (measured)


def choose_token(logits: Tensor, temperature: float, top_k: int, top_p: float, generator) -> Tensor:
    """(B, V) logits -> (B,) token ids; temperature 0 is greedy."""
    if temperature == 0:
        return logits.argmax(-1)
    ordered, index = logits.double().sort(-1, descending=True)                # (B, V)
    probability = ((ordered - ordered[:, :1]) / temperature).softmax(-1)      # the largest is 0: no overflow
    keep = probability.cumsum(-1) - probability < top_p                       # the first token is always kept
    if top_k:
        keep[:, top_k:] = False
    choice = torch.multinomial(probability * keep, 1, generator=generator)
    return index.gather(-1, choice)[:, 0]


def text_bits(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """(B,) float64: what logits (B, T, V) charge for texts ids (B, T), in bits, padding (mask False) left out."""
    nats = F.cross_entropy(logits.float().transpose(1, 2), ids, reduction="none") * mask
    return nats.double().sum(1) / math.log(2)


class Teller:
    """Decoding without a grid, token by token, told by meaning tiles: what `WheelerTextAutoencoder.told` does at once.

    estimate (B, Dm), tiles (B,): see `told`; length: tokens at most; trust: how much the tiles' evidence counts, 1 as
    in `told`.
    """

    def __init__(self, model, estimate: Tensor, tiles: Tensor, length: int, trust: float = 1.0):
        self.model, self.told, self.trust = model, model.meaning.told(estimate, tiles), trust
        self.caches = model.decoder.new_caches(len(estimate), length)
        self.said = torch.zeros_like(estimate)[:, None]                       # (B, 1, Dm): sum of what was said
        self.known = torch.full((len(estimate), 1, length), model.config.pad_token_id, device=estimate.device)

    def step(self, tokens: Tensor, t: int) -> Tensor:
        """tokens (B, 1): what stands at t - 1, bos at t = 0. Returns the logits of position t, (B, V)."""
        meaning = self.model.meaning
        if t:
            count = (self.known[:, 0, : t - 1] == tokens).sum(1, keepdim=True)
            weight = meaning.weight[tokens].exp() / (1 + count) * (tokens != self.model.config.eos_token_id)
            self.said = self.said + meaning.table(tokens) * weight[..., None]
            self.known[:, 0, t - 1] = tokens[:, 0]
        hidden = self.model.decoder.step(tokens, None, self.caches, t, meaning.injection(self.told, self.said))
        logits = self.model.head(hidden, grid=False)
        told = meaning.evidence(logits, hidden, self.told, self.said, self.known)
        return (told if self.trust == 1 else logits + self.trust * (told - logits))[:, 0]

    def keep(self, rows: list[int], t: int) -> None:
        """Go on with these rows alone, after `step` of t positions."""
        self.told, self.said, self.known = self.told.keep(rows), self.said[rows], self.known[rows]
        kept = [cache.new_empty(cache.shape[0], len(rows), *cache.shape[2:]) for cache in self.caches]
        for cache, old in zip(kept, self.caches, strict=True):
            cache[..., :t, :] = old[:, rows, :, :t]                           # behind t nothing is known yet
        self.caches = kept


@torch.no_grad()
def retell(model, estimate: Tensor, tiles: Tensor, max_length: int | None = None) -> list[list[int]]:
    """Estimates (B, Dm) of meanings that come from (B,) tiles -> token ids of texts that say so, greedy, closed by the
    end token where it was reached: gists."""
    c, out = model.config, [[] for _ in estimate]
    length = max_length or c.max_seq_len
    # Rows that reached their end leave the batch: gists differ in length, and the longest would set the pace.
    teller, going = Teller(model, estimate, tiles, length, GIST_TRUST), list(range(len(estimate)))
    tokens = torch.full((len(estimate), 1), c.bos_token_id, device=estimate.device)
    with column_major(model.decoder):
        for t in range(length):
            tokens = teller.step(tokens, t).argmax(-1, keepdim=True)
            for row, token in zip(going, tokens[:, 0].tolist(), strict=True):
                out[row].append(token)
            left = [i for i, row in enumerate(going) if out[row][-1] != c.eos_token_id]
            if not left:
                break
            if len(left) < len(going):
                teller.keep(left, t + 1)
                going, tokens = [going[i] for i in left], tokens[left]
    return out
