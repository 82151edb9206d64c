"""Text token by token: what a decoder charges, the choice of a token, decoding that meaning tiles tell.

Letters: B batch, T text tokens, V vocabulary, Dm meaning_dim.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wheeler.model.inputs import padded
from wheeler.model.layers import column_major

GIST_TRUST = 1.5        # of a gist in its tiles: it tells more of the text than at 1, and is still fluent (measured)
# A greedy gist repeats itself and forgets. The best of six by its own meaning names 43% of the content words instead of
# 37% and is nearest to its own story in 38% instead of 29% (24 stories, 31 tiles); of twelve no more words.
GIST_TRIES, GIST_TEMPERATURE = 6, 0.7


def nucleus(logits: Tensor, temperature: float, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """(B, V) logits -> float64 probabilities (B, V), the likeliest first, not normalised, and their token ids: 0 beyond
    the top_k likeliest (0: all) and the smallest set with probability top_p."""
    ordered, index = logits.double().sort(-1, descending=True)                # (B, V)
    probability = ((ordered - ordered[:, :1]) / temperature).softmax(-1)      # the largest is 0: no overflow
    keep = probability.cumsum(-1) - probability < top_p                       # the first token is always kept
    if top_k:
        keep[:, top_k:] = False
    return probability * keep, index


def choose_token(logits: Tensor, temperature: float, top_k: int, top_p: float, generator) -> Tensor:
    """(B, V) logits -> (B,) token ids; temperature 0 is greedy."""
    if temperature == 0:
        return logits.argmax(-1)
    probability, index = nucleus(logits, temperature, top_k, top_p)
    choice = torch.multinomial(probability, 1, generator=generator)
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
        logits = self.model.head(hidden)
        told = meaning.evidence(logits, hidden, self.told, self.said, self.known)
        return (told if self.trust == 1 else logits + self.trust * (told - logits))[:, 0]

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows alone."""
        self.told, self.said, self.known = self.told.keep(rows), self.said[rows], self.known[rows]
        self.caches = [cache[:, rows] for cache in self.caches]


@torch.no_grad()
def retell(model, estimate: Tensor, tiles: Tensor, max_length: int | None = None, tries: int = GIST_TRIES,
           seed: int = 0) -> list[list[int]]:
    """Estimates (B, Dm) of meanings that come from (B,) tiles -> token ids of texts that say so, closed by the end
    token where it was reached: gists. Of `tries` texts, one greedy and the others sampled, the one whose own meaning is
    nearest to the estimate; 1: the greedy one. The same seed gives the same gists."""
    drawn = told_texts(model, estimate.repeat_interleave(tries, 0), tiles.repeat_interleave(tries), tries,
                       max_length or model.config.max_seq_len, seed)
    if tries == 1:
        return drawn
    ids, mask = padded([[*row[:-1], model.config.eos_token_id] for row in drawn], model.config.pad_token_id,
                       estimate.device)
    meanings = torch.cat([model.meanings(ids[i : i + 16], mask[i : i + 16]) for i in range(0, len(ids), 16)])
    near = F.cosine_similarity(meanings.view(-1, tries, meanings.shape[-1]), estimate[:, None].to(meanings), dim=-1)
    return [drawn[i * tries + k] for i, k in enumerate(near.argmax(1).tolist())]


def told_texts(model, estimate: Tensor, tiles: Tensor, every: int, length: int, seed: int) -> list[list[int]]:
    """Token ids of texts that estimates (B, Dm) from (B,) tiles tell: of each `every` rows the first greedy, the others
    sampled."""
    c, out = model.config, [[] for _ in estimate]
    # One number a try and position, the same for all estimates: what is told does not depend on the rest of the batch.
    # Drawn on the CPU: the same whatever the device.
    numbers = torch.rand(every, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # Rows that reached their end leave the batch: gists differ in length, and the longest would set the pace.
    teller, going = Teller(model, estimate, tiles, length, GIST_TRUST), list(range(len(estimate)))
    tokens = torch.full((len(estimate), 1), c.bos_token_id, device=estimate.device)
    with column_major(model.decoder, model.encoder.embedding):
        for t in range(length):
            logits = teller.step(tokens, t)
            chosen = logits.argmax(-1)
            sampled = [i for i, row in enumerate(going) if row % every]
            if sampled:
                probability, index = nucleus(logits[sampled], GIST_TEMPERATURE, 0, 0.95)
                ends = probability.cumsum(-1)
                drawn = numbers[[going[i] % every for i in sampled], t].to(ends.device)[:, None] * ends[:, -1:]
                place = torch.searchsorted(ends, drawn, right=True).clamp(max=ends.shape[1] - 1)
                chosen[sampled] = index.gather(-1, place)[:, 0]
            for row, token in zip(going, chosen.tolist(), strict=True):
                out[row].append(token)
            left = [i for i, row in enumerate(going) if out[row][-1] != c.eos_token_id]
            if not left:
                break
            if len(left) < len(going):
                teller.keep(left)
                going, chosen = [going[i] for i in left], chosen[left]
            tokens = chosen[:, None]
    return out
