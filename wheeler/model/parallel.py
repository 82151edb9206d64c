"""Decoding of grids: token by token, and, where greedy, all tokens at once; the token ids are the same.

The grid says every token at its place, so the decoder can guess them all, run once over its guess, and see which of
its choices agree. Whatever stands before the first choice that does not is what the loop would have chosen (Jacobi
decoding: Song et al. 2021, "Accelerating feedforward computation via parallel nonlinear equation solving").

Letters: B batch, T text tokens, V vocabulary, D d_model.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wheeler.model.layers import Context, column_major

PASSES = 8              # over the tokens at most; texts that are in their grid take one
LEAST_GAIN = 1 / 16     # of the tokens still open that a pass has to settle, or the loop is as fast
# Two logits this near may change places by rounding, which is not the same for many tokens at once as for one: where
# the best two are, the loop decides. A hundred times the largest difference seen.
MARGIN = 1e-3
HEAD_ROWS = 1024        # hidden states that get their logits at once: V floats each


def greedy(model, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """hidden (B, T, D) of a decoder that reads a grid -> its choices (B, T) int64, and (B, T) bool: whether the choice
    is safe from rounding."""
    choices, safe = [], []
    for rows in hidden.flatten(0, 1).split(HEAD_ROWS):
        logits = model.head(rows[None], grid=True)[0]                         # (rows, V)
        best, choice = logits.max(-1)
        second = logits.scatter_(-1, choice[:, None], -torch.inf).amax(-1)
        choices.append(choice)
        safe.append(best - second > MARGIN * (1 + best.abs()))
    return torch.cat(choices).view(hidden.shape[:2]), torch.cat(safe).view(hidden.shape[:2])


def first(flags: Tensor) -> Tensor:
    """(B, T) bool -> (B,) int64: the place of the first True, T where there is none."""
    return torch.where(flags.any(-1), flags.int().argmax(-1), flags.shape[-1])


class OpenRows:
    """The rows of a batch whose text is not yet settled.

    rows (b,): their places in the batch; settled (b,): tokens at the beginning of each that are final; context and
    caches: of these rows, the caches filled for the positions before the least of `settled`.
    """

    def __init__(self, decoder, context: list[Context], tokens: Tensor):
        """All rows of tokens (B, 1 + length), nothing of them settled."""
        self.rows = torch.arange(len(tokens), device=tokens.device)
        self.settled, self.context = torch.zeros_like(self.rows), context
        self.caches = decoder.new_caches(len(tokens), tokens.shape[1] - 1)

    def keep(self, kept: Tensor) -> None:
        """Go on with the rows where kept (b,) is True."""
        if not bool(kept.all()):
            self.rows, self.settled = self.rows[kept], self.settled[kept]
            self.context = [(keys[kept], values[kept], code) for keys, values, code in self.context]
            self.caches = [cache[:, kept] for cache in self.caches]


def decode_at_once(model, left: OpenRows, tokens: Tensor, end: int) -> OpenRows:
    """Fill tokens (B, 1 + length) int64, whose first column is the start token, with what the greedy loop would choose,
    up to each row's first `end`. Returns what is still open, for the loop to go on with: most often nothing."""
    length = tokens.shape[1] - 1
    tokens[:, 1:], _ = greedy(model, model.decoder.draft(left.context, length))
    for _ in range(PASSES):
        begin = int(left.settled.min())
        # No further than the last end token of the guess: what follows it is not text.
        until = min(int(first(tokens[left.rows, 1:] == end).max()) + 1, length)
        guess = tokens[left.rows, begin : until + 1]                          # (b, 1 + n): n inputs, n choices
        hidden = model.decoder.step(guess[:, :-1], left.context, left.caches, begin)
        choice, safe = greedy(model, hidden)
        tokens[left.rows, begin + 1 : until + 1] = choice
        # The first choice that differs from the guess is right itself: all before it are.
        right, doubtful = (first(choice != guess[:, 1:]) + 1).clamp(max=until - begin), first(~safe)
        settled = torch.maximum(left.settled, begin + torch.minimum(right, doubtful))
        still = (begin + first(choice == end) >= settled) & (settled < length)
        gain, left.settled = settled - left.settled, settled
        # A doubtful choice stays doubtful however often it is looked at.
        slow = (doubtful < right) | (gain < LEAST_GAIN * (until - settled))
        left.keep(still)
        if not len(left.rows) or bool(slow[still].any()):
            break
    return left


def decode_loop(model, left: OpenRows, tokens: Tensor, end: int, choose: Callable[[Tensor], Tensor],
                use_cache: bool = True) -> None:
    """Fill tokens (B, 1 + length) for the rows that are `left`, one position after the other, from the first that is
    not settled on: choose((b, V) logits) gives (b,) token ids. A row that is done is filled with `end`."""
    if not len(left.rows):
        return
    # In rows, not as views of (B, N, D): one query reads them twice as fast, at every token.
    context = [(keys.contiguous(), values.contiguous(), code) for keys, values, code in left.context]
    begin, ids = int(left.settled.min()), tokens[left.rows]
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    with column_major(model.decoder, model.encoder.embedding):
        for t in range(begin, ids.shape[1] - 1):
            if use_cache:
                hidden = model.decoder.step(ids[:, t : t + 1], context, left.caches, t)
            else:
                hidden = model.decoder(ids[:, : t + 1], context)[:, -1:]
            token = choose(model.head(hidden, grid=True)[:, 0])
            # Rows that are done go on with end tokens: one batch, one cache, until the last row is done.
            ids[:, t + 1] = torch.where(done, end, token)
            done |= token == end
            if bool(done.all()):
                ids[:, t + 2 :] = end
                break
    tokens[left.rows] = ids
