"""The meaning of a text as tiles of a frame, and what a decoder learns from the first of them.

    ids (B, T) --weighted sum of token vectors--> meaning (B, Dm) --projections--> tiles (B, M) of 12,847 words each
    tiles (B, M) --the projections transposed--> estimate of the meaning (B, Dm), the better the more tiles
    estimate - what the text has said so far --> a vector for the decoder, and evidence for each token of the vocabulary

The meaning of a text is a direction: the sum of its tokens' vectors, each weighted by how much it says, the second
occurrence of a token half as much as the first, a third a third. Tile k shows 24 projections of it: it is the tile word
whose code agrees best with them. All tiles are alike, so that any first M of them are as good as M can be, and a lost
tile costs as much as any other. Texts with common or related words have near meanings, so their tiles agree in more
cells than chance, and Pearson's correlation of frames sees it.

The reader adds the projections up again. What it gets is the meaning plus noise, of which 10 dimensions' worth a tile
are signal (measured). The probability that a token is in the text, given its place in that sum, follows from Bayes'
rule with two normal distributions; `evidence` adds its logarithm to the logits of the decoder. What was said already
is taken out of the sum, which takes its noise out as well.

Vector sums of words: Mitchell and Lapata 2010. Straight-through gradients: VQ-VAE, arXiv:1711.00937. Random projections
with rows of a Hadamard matrix: Ailon and Chazelle 2009.

Letters: B batch, T text tokens, V vocabulary, D d_model, Dm meaning_dim, M tiles.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wheeler.dynamics.tiles import tile_words

CODE = 24                                                                     # projections that a tile shows
SIGNAL = 10.0                                                                 # of them, dimensions' worth that arrive
SLOPE = 0.75                                                                  # codes follow projections so, on average


def projections(tiles: int, dim: int) -> np.ndarray:
    """(tiles, CODE, dim) float32 of -1 and +1, the same on every machine: rows of a Hadamard matrix with random signs,
    so that tiles in a row show different things (orthogonal ones, where dim is a power of two)."""
    if not tiles:
        return np.empty((0, CODE, dim), np.float32)
    size = 1 << (dim - 1).bit_length()
    rows, matrix, blocks = tiles * CODE, np.ones((1, 1), np.float32), []
    while len(matrix) < size:                                                 # Sylvester's Hadamard matrix
        matrix = np.kron(np.float32([[1, 1], [1, -1]]), matrix)
    matrix = matrix[:, :dim]
    for block in range(-(-rows // size)):
        bits = hashlib.shake_256(b"meaning %d" % block).digest(-(-dim // 8))
        signs = 1 - 2.0 * np.unpackbits(np.frombuffer(bits, np.uint8))[:dim].astype(np.float32)
        blocks.append(matrix * signs)
    return np.concatenate(blocks)[:rows].reshape(tiles, CODE, dim)


def tile_basis() -> Tensor:
    """(64, CODE) float32: the directions in which the tile words differ most, orthonormal."""
    words = torch.from_numpy(tile_words()).double()
    return torch.linalg.eigh(torch.cov(words.T))[1].flip(1)[:, :CODE].float().contiguous()


class Meaning(nn.Module):
    """Meaning of texts, its tiles, and what they tell a decoder. most_tiles: of the frames that are trained on; frames
    of other sizes take as many as they have."""

    def __init__(self, vocab_size: int, d_model: int, dim: int, most_tiles: int):
        super().__init__()
        self.dim, self.vocab_size = dim, vocab_size
        self.table = nn.Embedding(vocab_size, dim)                            # vectors of tokens
        self.weight = nn.Parameter(torch.zeros(vocab_size))                   # log of how much a token says
        self.context = nn.Linear(d_model, dim, bias=False)                    # of the encoder's states, to the vectors
        self.inject = nn.Linear(2 * dim, d_model, bias=False)                 # into the decoder's embeddings
        self.prior = nn.Parameter(torch.full((vocab_size,), -3.0))            # logit that a text has the token
        self.gate = nn.Linear(d_model, 1)                                     # how much the evidence counts
        self.sharpness = nn.Parameter(torch.zeros(()))                        # log, of the evidence
        self.length = nn.Parameter(torch.tensor(math.log(10.0)))              # log, of the sum over a usual text
        self.register_buffer("centre", torch.zeros(dim))                      # mean of the texts' directions
        self.register_buffer("basis", tile_basis())                           # stored: readers need the same bits
        self.register_buffer("rows", torch.from_numpy(projections(most_tiles, dim)), persistent=False)
        self._codes = None

    # ---- text -> meaning -> tiles ----

    def codes(self) -> Tensor:
        """(12847, CODE): the tile words in the basis, their mean taken off."""
        if self._codes is None or self._codes.dtype != self.basis.dtype or self._codes.device != self.basis.device:
            words = torch.from_numpy(tile_words()).to(self.basis)
            with torch.autocast(self.basis.device.type, enabled=False):       # else they are made anew at every call
                self._codes = (words - words.mean(0)) @ self.basis
        return self._codes

    def projections(self, tiles: int) -> Tensor:
        """(tiles, CODE, Dm) of -1 and +1."""
        if tiles > len(self.rows):                                            # a frame larger than the model's own
            self.rows = torch.from_numpy(projections(tiles, self.dim)).to(self.rows)
        return self.rows[:tiles]

    def weights(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T): how much each token says. mask (B, T) bool: which count; the others say nothing. Causal."""
        same = ((ids[:, :, None] == ids[:, None, :]) & mask[:, None]).tril(-1)                 # (B, T, T)
        return self.weight[ids].exp() / (1 + same.sum(-1)) * mask

    def terms(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T, Dm): weighted token vectors, without the encoder's part: what a reader can know too."""
        return self.table(ids) * self.weights(ids, mask)[..., None]

    def direction(self, total: Tensor) -> Tensor:
        """Sums (B, Dm) -> meanings (B, Dm) of rms 1."""
        u = F.normalize(total, dim=-1) - self.centre
        return F.normalize(u, dim=-1) * math.sqrt(self.dim)

    def forward(self, ids: Tensor, mask: Tensor, states: Tensor) -> Tensor:
        """ids (B, T), mask (B, T) bool, the encoder's states (B, T, D) -> meanings (B, Dm) of rms 1."""
        # The factor makes a step of the optimizer as small beside the table's vectors as it is elsewhere.
        vectors = self.table(ids) + self.context(states) * (0.06 / math.sqrt(self.dim))
        return self.direction((vectors * self.weights(ids, mask)[..., None]).sum(1))

    def projected(self, meaning: Tensor, tiles: int) -> Tensor:
        """(B, Dm) -> (B, tiles, CODE), of unit variance."""
        return torch.einsum("bd,kcd->bkc", meaning, self.projections(tiles)) / math.sqrt(self.dim)

    @torch.no_grad()
    def choose(self, meaning: Tensor, tiles: int) -> Tensor:
        """(B, Dm) -> (B, tiles) int64 numbers of tile words."""
        return (self.projected(meaning, tiles) @ self.codes().T).argmax(-1)

    def shown(self, meaning: Tensor, tiles: int) -> Tensor:
        """(B, Dm) -> codes of the chosen tiles (B, tiles, CODE). The gradient goes straight through: to each of the
        projections the slope that tiles follow it with on average."""
        y = self.projected(meaning, tiles)
        with torch.no_grad():
            hard = self.codes()[(y @ self.codes().T).argmax(-1)]
        return hard + SLOPE * (y - y.detach())

    # ---- tiles -> what the decoder is told ----

    def cells_to_codes(self, cells: Tensor) -> Tensor:
        """Cells (B, M, 64) in [-1, 1] -> codes (B, M, CODE). A cell of 0 is unknown and says nothing."""
        mean = torch.from_numpy(tile_words()).to(self.basis).mean(0)
        return (cells.to(self.basis) - mean * cells.abs().to(self.basis)) @ self.basis

    def estimate(self, codes: Tensor, tiles: Tensor) -> Tensor:
        """Codes of tiles (B, M, CODE), 0 where one is missing, and how many are there, (B,) -> estimate (B, Dm) of the
        meaning, on average the meaning itself; 0 where no tile is there."""
        total = torch.einsum("bkc,kcd->bd", codes, self.projections(codes.shape[1]))
        scale = math.sqrt(self.dim) / (SLOPE * CODE) / tiles.to(codes.dtype).clamp(min=1e-6)
        return total * (scale * (tiles > 0))[:, None]

    def before(self, terms: Tensor) -> Tensor:
        """(B, T, Dm) -> (B, T, Dm): at t the sum of what stands before t."""
        return terms.cumsum(1) - terms

    def told(self, estimate: Tensor, tiles: Tensor) -> "Told":
        """What an estimate (B, Dm) that comes from (B,) tiles tells of a text as a whole."""
        usual, tiles = self.length.exp(), tiles.to(estimate.dtype)
        trust = 1 / (1 + self.dim / (SIGNAL * tiles.clamp(min=1e-6)))         # few tiles are mostly noise
        sums = usual * (estimate / math.sqrt(self.dim) + self.centre)         # (B, Dm) of the size of token sums
        noise = usual**2 * (1 / (SIGNAL * tiles.clamp(min=1e-6)) + 1 / self.dim)               # (B,)
        sharp, weight, table = (self.sharpness.exp() / noise)[:, None], self.weight.exp(), self.table.weight
        odds = self.prior + sharp * weight * (F.linear(sums, table) - weight * table.square().sum(1) / 2)
        vectors = (weight[:, None] * table).detach()
        return Told(estimate * trust[:, None], tiles, odds, sharp, vectors)

    def injection(self, told: "Told", said: Tensor) -> Tensor:
        """Added to the decoder's embeddings. said (B, T, Dm): `before` -> (B, T, D)."""
        both = torch.cat([told.estimate[:, None].expand_as(said), said * (math.sqrt(self.dim) / self.length.exp())], -1)
        return self.inject(both) * ((2 * self.dim) ** -0.5 * (told.tiles > 0).float())[:, None, None]

    def evidence(self, logits: Tensor, hidden: Tensor, told: "Told", said: Tensor, known: Tensor) -> Tensor:
        """The decoder's logits (B, T, V) and what the tiles say of each token, together; rows without tiles stay.

        hidden (B, T, D): the decoder's output; said (B, T, Dm): `before`; known (B, T, K) int64: tokens of which the
        decoder knows itself that they are in the text.
        """
        trust = 2 * self.gate(hidden).sigmoid() * (told.tiles > 0)[:, None, None]              # (B, T, 1), 1 at first
        # What was said is taken out without a gradient, which would cost as much as the vocabulary and gives little.
        gone = (told.sharp[..., None] * said).detach()                        # (B, T, Dm)
        never = F.softplus(-self.prior)
        # -log p(in the text | tiles and what was said), (B, T, V)
        # One product for all rows: one a row would read all vectors anew for each, when a row is a single token.
        absent = F.softplus(F.linear(gone, told.vectors).sub_(told.odds[:, None]))
        absent = absent.scatter(2, known, never[known].to(absent.dtype))      # what is known gains nothing
        present = logits + trust * never                                      # float32 also under autocast
        return torch.addcmul(present, trust, absent.to(present.dtype), value=-1)


class Told(NamedTuple):
    """What meaning tiles tell of a text: `Meaning.told`."""

    estimate: Tensor                                                          # (B, Dm), scaled by how sure it is
    tiles: Tensor                                                             # (B,): how many it comes from
    odds: Tensor                                                              # (B, V): log odds of each token
    sharp: Tensor                                                             # (B, 1): weight of a place in the sum
    vectors: Tensor                                                           # (V, Dm): of all tokens, by their weights

    def keep(self, rows: list[int]) -> "Told":
        return Told(*(x[rows] for x in self[:4]), self.vectors)
