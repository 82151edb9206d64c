"""Wheeler text autoencoder: text -> (grid_size, grid_size, d_model) grid -> text, and the frame, a picture of it.

    input_ids (B, T) --Encoder--> grid (B, H, W, D) --Decoder--> logits (B, T, V), text
                                                                   |       ^
                                                                write     read      by wheeler.frame.code.FrameCode
                                                                   v       |
                                                    frame (B, H, W) of -1 and +1    <- where the Wheeler dynamics run

    input_ids (B, T) --Meaning--> up to M tiles of the frame --Decoder without a grid--> logits (B, T, V), words, gist

Encoder: token embedding, text self-attention, then one query a grid patch (p x p cells) cross-attends to the text; a
linear map unfolds every patch latent into its p x p x D cells. Decoder: the inverse linear map folds the cells back to
latents; an autoregressive transformer with cross-attention to them gives the text. Working on patches, not cells, is
what makes a 64 x 64 grid affordable: attention is over (H/p)(W/p) latents, not H*W cells.

Sources: cross-attention latents, Perceiver IO (arXiv:2107.14795); patch (un)embedding, ViT (arXiv:2010.11929); pre-norm
decoder, GPT-2; rotary positions, RoFormer (arXiv:2104.09864). The aligned start is this project's own: see
`init_weights` (wheeler/model/start.py).

Letters: B batch, T text tokens, L max_seq_len, V vocabulary, H = W grid_size in cells, p patch_size in cells,
N = (H/p)*(W/p) latents, D d_model, nh heads, hd = D // nh.
"""

import hashlib
import os
import warnings
from contextlib import nullcontext
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin, load_torch_model, snapshot_download
from torch import Tensor, nn

from wheeler.model.checkpoint import (
    CHECKPOINT_FORMAT,
    OldFormat,
    announce,
    check_sizes,
    find_checkpoint,
    plain_contents,
    read_checkpoint,
    save_weights,
    stored_shapes,
)
from wheeler.model.config import WheelerConfig
from wheeler.model.decoding import choose_token, retell, text_bits
from wheeler.model.halves import Decoder, Encoder, Patches
from wheeler.model.inputs import check_frames, check_ids, check_latent, padded, text_ids
from wheeler.model.meaning import Meaning
from wheeler.model.parallel import OpenRows, decode_at_once, decode_loop
from wheeler.model.start import NoDraws, in_float32, init_weights
from wheeler.model.tokenizer import (
    first_line,
    tokenizer_from_dict,
    tokenizer_from_json,
    tokenizer_to_dict,
    vocabulary_size,
)

if TYPE_CHECKING:
    from wheeler.frame.code import Reading

SHARD_SIZE = "15MB"                              # of weights: code hosts refuse large files, git keeps every version


class WheelerTextAutoencoder(nn.Module, PyTorchModelHubMixin, library_name="wheeler-ai", tags=["text-autoencoder"]):
    """Text autoencoder with a (grid_size, grid_size, d_model) grid as its latent, and a frame, a picture of its text.

    >>> model = WheelerTextAutoencoder.load_from_checkpoint("checkpoints/best.pt")
    >>> grid = model.encode("Hello world")                  # (1, 64, 64, 256) float32
    >>> frame = model.get_grid_as_image(grid)               # (1, 64, 64) float32 of -1 and +1
    >>> model.decode(grid)                                  # "Hello world"
    >>> model.decode(model.set_grid_from_image(frame))      # "Hello world", read from the frame alone

    `tokenizer` is a `PreTrainedTokenizerFast` (or None: then texts go in and out as token ids); it travels inside every
    checkpoint. A new model has random weights in the documented start of `init_weights`, or, with start=False, whatever
    was in memory: for weights that are loaded next.
    """

    def __init__(self, config: WheelerConfig, tokenizer=None, start: bool = True):
        super().__init__()
        if not isinstance(config, WheelerConfig):
            raise ValueError(f"config must be a WheelerConfig, not {type(config).__name__}")
        self.config, self.tokenizer = config, tokenizer
        # A token beyond the table would be an index error in the middle of an epoch, or nonsense on a GPU.
        size = 0 if tokenizer is None else vocabulary_size(tokenizer)
        if size > config.vocab_size:
            raise ValueError(f"the tokenizer has {size} entries, more than vocab_size = {config.vocab_size}")
        with in_float32(), nullcontext() if start else NoDraws():
            self.encoder, self.patches = Encoder(config), Patches(config)
            self.decoder = Decoder(config)
            self.meaning = Meaning(config.vocab_size, config.d_model, config.meaning_dim, config.meaning_tiles)
        if start:
            init_weights(self)
        self._code = None                                                     # see `frame_code`

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, meaning_tiles: Tensor | None = None,
                blank_rows: int = 0) -> tuple[Tensor, Tensor]:
        """Teacher forcing: bos is prepended inside, logits at t predict token t of input_ids.

        input_ids: (B, T) int64, T <= max_seq_len, every text closed by its end token. attention_mask: (B, T), 1 for
        text, 0 for padding on the right; None: no padding. The first texts of the batch are decoded from their grid,
        then len(meaning_tiles) from so many of their meaning tiles, (R,) int64, the last blank_rows from neither (the
        decoder as a language model). Returns logits (B, T, V) and grid (B - R - blank_rows, H, W, D). Padded positions
        have logits too: leave them out of the loss.
        """
        c, told = self.config, 0 if meaning_tiles is None else len(meaning_tiles)
        if input_ids.shape[1] > c.max_seq_len:
            raise ValueError(f"input_ids has {input_ids.shape[1]} tokens, max_seq_len is {c.max_seq_len}")
        mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        # One forward for three tasks: what they share (embeddings, decoder layers, head) gets one gradient from all
        # of them, and a single graph is enough for DDP and torch.compile.
        read = len(input_ids) - told - blank_rows                             # rows whose latents are read
        if read < 0 or blank_rows < 0:
            raise ValueError(f"{told} meaning_tiles and blank_rows = {blank_rows} do not fit a batch of "
                             f"{len(input_ids)}")
        grid = self.meaning.basis.new_zeros(0, c.grid_size, c.grid_size, c.d_model)
        logits = []
        if read:                                                              # cuDNN's attention fails on empty batches
            grid = self.patches.to_grid(self.encoder(input_ids[:read], mask[:read]))           # (read, H, W, D)
            latents = self.patches.from_grid(grid)                            # (read, N, D)
            inputs = F.pad(input_ids[:read, :-1], (1, 0), value=c.bos_token_id)
            logits.append(self.head(self.decoder(inputs, self.decoder.context(latents)), grid=True))
        if told:
            ids, text = input_ids[read : read + told], mask[read : read + told]
            # All tiles are made, then those beyond each row's number are taken out: rows of one batch differ in their
            # number, and a shape that depends on it would compile anew every step.
            codes = self.meaning.shown(self.meanings(ids, text), c.meaning_tiles)
            present = torch.arange(c.meaning_tiles, device=ids.device) < meaning_tiles[:, None]
            estimate = self.meaning.estimate(codes * present[..., None], meaning_tiles)
            logits.append(self.told(ids, text, estimate, meaning_tiles))
        if blank_rows:
            # The same weights without tiles and without a grid: the language model that the arithmetic code charges by.
            logits.append(self.told(input_ids[-blank_rows:], mask[-blank_rows:], None, None))
        return torch.cat(logits), grid

    def says(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) bool: tokens that count for a text's meaning, all but its end."""
        return mask & (ids != self.config.eos_token_id)

    def meanings(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, T), mask (B, T) bool -> meanings (B, Dm) of rms 1."""
        # The encoder's layers serve the grid; training them through the tiles as well costs a third more time.
        with torch.no_grad():
            states = self.encoder.states(ids, mask)
        return self.meaning(ids, self.says(ids, mask), states)

    def told(self, ids: Tensor, mask: Tensor, estimate: Tensor | None, tiles: Tensor | None) -> Tensor:
        """Logits (B, T, V) of a decoder that sees no grid, but, if given, an estimate (B, Dm) of the text's meaning
        that comes from (B,) tiles; see `Meaning.estimate`."""
        c, meaning = self.config, self.meaning
        # The decoder sees what stands before t and never the token itself.
        inputs = F.pad(ids[:, :-1], (1, 0), value=c.bos_token_id)
        if estimate is None:
            return self.head(self.decoder(inputs, None), grid=False)
        told = meaning.told(estimate, tiles)
        # What the text has said already is taken out of the sum that the tiles show: the rest is what is still to come,
        # and its noise is smaller.
        said = meaning.before(meaning.terms(ids, self.says(ids, mask)))       # (B, T, Dm)
        hidden = self.decoder(inputs, None, meaning.injection(told, said))
        # What stands before t is known there; the padding's logit, which nobody asks for, takes the places after it.
        known = ids[:, None].expand(-1, ids.shape[1], -1)                     # (B, T, T)
        known = known.tril(-1) + torch.full_like(known, c.pad_token_id).triu()
        return meaning.evidence(self.head(hidden, grid=False), hidden, told, said, known)

    def head(self, hidden: Tensor, grid: bool) -> Tensor:
        """What the decoder gave (B, T, D) -> logits (B, T, V). grid: whether it read one."""
        # The aligned start brings each token's own vector of the encoder's table back through the grid; what follows
        # which token is another matter and has a table of its own. Rows that only make it a multiple of 64 are cut off.
        weight = self.encoder.embedding.weight if grid else self.decoder.language_head.weight
        return F.linear(hidden, weight)[..., : self.config.vocab_size]

    # ---- text in and out ----

    @property
    def device(self) -> torch.device:
        return self.encoder.embedding.weight.device

    def _tokenize(self, texts: str | list[str], *more) -> tuple[Tensor, Tensor]:
        """Texts -> input_ids (B, T) and mask (B, T) on the model's device. more: of `text_ids`."""
        return padded(text_ids(texts, self.tokenizer, self.config, *more), self.config.pad_token_id, self.device)

    @torch.no_grad()
    def encode(self, text: str | list[str] | Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Text, list of texts, or token ids (B, T) (each row closed by the end token, as `tokenizer(text)` gives them)
        with their mask (1 text, 0 padding) -> grid (B, H, W, D), on the model's device and in its dtype.

        A text longer than max_seq_len - 1 tokens is cut with a warning. Raises ValueError for an empty list, non-text,
        invalid Unicode, and ids of the wrong shape, dtype, device or range.
        """
        if isinstance(text, Tensor):
            ids, mask = check_ids(text, attention_mask, self.config, self.device)
        else:
            ids, mask = self._tokenize(text)
        return self.patches.to_grid(self.encoder(ids, mask))

    def _check_grid(self, grid: Tensor) -> Tensor:
        c = self.config
        return check_latent(self.encoder.embedding.weight, grid, "grid", (c.grid_size, c.grid_size, c.d_model))

    def get_grid_as_image(self, grid: Tensor) -> Tensor:
        """Grid (B, H, W, D) or (H, W, D) -> frame (B, H, W) float32 of -1 and +1, on the grid's device: the one frame,
        that of the text that the grid holds, as `encode_frame` writes it, with the same warning."""
        grid, c = self._check_grid(grid), self.config
        # A grid says its text; the frame is written from that text. So a frame made of a grid and one made of the text
        # are the same cells, whatever rounding there was in the grid.
        rows = [[*ids[: c.max_seq_len - 1], c.eos_token_id] for ids in self.decode(grid, return_ids=True)]
        return self._write_frames(rows).to(grid.device)

    def set_grid_from_image(self, frame: Tensor) -> Tensor:
        """Frame (B, H, W) or (H, W) with values in [-1, 1] -> grid (B, H, W, D) of the text that the frame says, or of
        its gist, with the warning of `decode_frame`. Only signs are read."""
        c = self.config
        frame = check_latent(self.encoder.embedding.weight, frame, "frame", (c.grid_size, c.grid_size))
        if frame.abs().max() > 1:
            raise ValueError(f"frame spans {frame.min():.4g} .. {frame.max():.4g}, wanted values in [-1, 1]")
        # A gist may stop without an end token, or hold one in its middle: an encoder row has exactly one, at its end.
        rows = [[*[token for token in reading.ids if token != c.eos_token_id][: c.max_seq_len - 1], c.eos_token_id]
                for reading in self._readings(frame)]
        return self.encode(*padded(rows, c.pad_token_id, self.device))

    @torch.no_grad()
    def decode(self, grid: Tensor, start_token_id: int | None = None, end_token_id: int | None = None,
               max_length: int | None = None, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0,
               generator: torch.Generator | None = None, use_cache: bool = True, parallel: bool = True,
               return_ids: bool = False) -> str | list[str] | list[list[int]]:
        """Grid (B, H, W, D) or (H, W, D) -> text, free-running: a str for one grid, a list of B str for several.

        start_token_id, end_token_id: default bos and eos of the config. max_length: tokens at most, 1 .. max_seq_len
        (the default). temperature 0 is greedy; above it samples among the top_k likeliest (0: all) and the smallest set
        with probability top_p. Every row stops at its own end token. return_ids gives lists of token ids without it.
        parallel: greedy decoding guesses all tokens, checks them at once and loops over what is left
        (wheeler/model/parallel.py); False: token by token. use_cache=False recomputes the whole prefix at every token.
        The result is the same each time: both are for tests and benchmarks.
        """
        c = self.config
        grid = self._check_grid(grid)
        start = c.bos_token_id if start_token_id is None else start_token_id
        end = c.eos_token_id if end_token_id is None else end_token_id
        for name, value in (("start_token_id", start), ("end_token_id", end)):
            if not 0 <= value < c.vocab_size:
                raise ValueError(f"{name} = {value} must be in [0, vocab_size = {c.vocab_size})")
        max_length = c.max_seq_len if max_length is None else max_length
        if not 1 <= max_length <= c.max_seq_len:
            raise ValueError(f"max_length = {max_length} must be in 1 .. max_seq_len = {c.max_seq_len}")
        if not temperature >= 0 or top_k < 0 or not 0 < top_p <= 1:
            raise ValueError(f"temperature = {temperature} and top_k = {top_k} must not be negative, "
                             f"top_p = {top_p} must be in (0, 1]")
        if self.tokenizer is None and not return_ids:
            raise ValueError("this model has no tokenizer: use return_ids=True, or give the model a tokenizer")
        # Shape and range were checked before any work is done: a long decode must not end in an error.
        latents = self.patches.from_grid(grid)                                # (B, N, D)
        tokens = torch.full((len(grid), max_length + 1), end, device=grid.device)
        tokens[:, 0] = start
        left = OpenRows(self.decoder, self.decoder.context(latents), tokens)
        if parallel and use_cache and temperature == 0:
            left = decode_at_once(self, left, tokens, end)
        choose = partial(choose_token, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        decode_loop(self, left, tokens, end, choose, use_cache)
        # What a finished row was filled with after its end token does not count.
        ids = [row[: row.index(end)] if end in row else row for row in tokens[:, 1:].tolist()]
        if return_ids:
            return ids
        texts = [self.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
        return texts[0] if len(texts) == 1 else texts

    # ---- text that survives the dynamics ----

    def encode_frame(self, text: str | list[str], redundant: bool | str = False, strict: bool = False) -> Tensor:
        """Text or list of texts -> frames (B, H, W) float32 of -1 and +1, on the CPU: fixed points of the Wheeler
        dynamics that come back whole from any disturbance that keeps the signs (see wheeler/frame/code.py). A frame
        shows the text's meaning, as much as fits, and its words. Texts that are near have near frames.

        redundant: "flips" (or True), a code that withstands flipped signs and erased areas but holds about a third, or
        "erasures", one for larger areas; hardly any meaning. A text whose words do not fit gets a frame of its meaning
        alone, with a UserWarning that says how many bits it costs; strict: ValueError instead.
        """
        from wheeler.frame.film import frames_needed

        ids, mask = self._tokenize(text, strict, partial(frames_needed, self.frame_code()))
        rows = [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
        return self._write_frames(rows, redundant, strict)

    def frame_code(self):
        """The model's FrameCode: the last one, or, where a weight has changed since, a new one."""
        from wheeler.frame.code import FrameCode

        # Sums see what was changed through .data, which counts no versions; a hash takes ten times as long.
        now = [(weight.data_ptr(), weight._version, weight.detach().sum().item())
               for weight in self.state_dict(keep_vars=True).values()]
        if self._code is None or self._code[0] != now:
            self._code = now, FrameCode(self)
        return self._code[1]

    def _write_frames(self, rows: list[list[int]], redundant: bool | str = False, strict: bool = False) -> Tensor:
        """Token ids, each text closed by the end token -> frames (B, H, W)."""
        from wheeler.frame.code import cost_of, frame_bits  # numba takes long, and `import models` need not

        code = self.frame_code()
        written = code.write(rows, redundant)
        for i, one in enumerate(written):
            if not one.fits:
                # Without tiles all rows are room for words: the most that was tried, and what the message compares.
                cost, = code.charges([rows[i]], [one.tiles[:0]])
                message = (f"text {i} costs {cost_of(cost):.0f} bits under this model, a frame of {code.height} x "
                           f"{code.width} holds about {frame_bits(code.height, code.width, redundant=redundant):.0f}")
                if strict:
                    raise ValueError(message)
                warnings.warn(f"{message}: the frame holds its gist, not its words; encode_frames writes it into "
                              "several", stacklevel=3)
        return torch.from_numpy(np.stack([one.frame for one in written]))

    def read_frame(self, frames: Tensor) -> "list[Reading]":
        """Frames (B, H, W) or (H, W) -> a list of readings, each with `text`, `exact` (True only where the checksum
        agrees: then all tokens are those that were written), `kind` ("words", "gist", "nothing" where neither words nor
        meaning can be read, "foreign" where other weights wrote the frame), `meaning_tiles`, and `bits` of the words.
        Only signs are read, 0 is unknown.

        Raises ValueError for frames of another size, with NaN, or of a single sign.
        """
        # The reader runs on the CPU, in whole numbers: two machines agree on them.
        code = self.frame_code()
        return code.read(check_frames(frames, code.height, code.width).numpy())

    def decode_frame(self, frame: Tensor) -> str | list[str]:
        """Frames (B, H, W) or (H, W) of `encode_frame` -> text, a str for one frame. Where the words are damaged or
        were not in it, the gist, and where nothing can be read "", with a UserWarning. ValueError for a frame of other
        weights, and as `read_frame`."""
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer: use read_frame for token ids")
        texts = [reading.text for reading in self._readings(frame)]
        return texts[0] if len(texts) == 1 else texts

    def encode_frames(self, text: str) -> Tensor:
        """A text of any length -> frames (F, H, W) float32, see wheeler/frame/film.py: one as of `encode_frame` if its
        words fit into it, else pieces in order, each with its own meaning and its place. ValueError for bad texts."""
        from wheeler.frame.film import write_film

        return torch.from_numpy(np.stack([one.frame for one in write_film(self.frame_code(), text)]))

    def decode_frames(self, frames: Tensor) -> str | list[str]:
        """Frames (F, H, W) of `encode_frames`, in any order, of several texts, or twice -> text, a list if of several.
        A mark stands where a frame is missing or damaged; a UserWarning says which. ValueError as `decode_frame`."""
        from wheeler.frame.film import told_films

        return told_films(self.frame_code(), torch.as_tensor(frames).detach().cpu().numpy())

    def _readings(self, frame: Tensor) -> "list[Reading]":
        """`read_frame`; warns of all but words, ValueError where other weights wrote a frame."""
        readings = self.read_frame(frame)
        of = lambda kind: ", ".join(str(i) for i, reading in enumerate(readings) if reading.kind == kind)
        # Other weights give other probabilities: the bits would be read as another text, so nothing is read at all.
        if of("foreign"):
            raise ValueError(f"frame {of('foreign')}: its header names other weights than these; only the model that "
                             "wrote a frame can read it")
        if of("gist"):
            warnings.warn(f"frame {of('gist')}: no words to be trusted (damaged, or too many for the frame): the text "
                          "is a gist", stacklevel=3)
        if of("nothing"):
            warnings.warn(f"frame {of('nothing')}: nothing can be read, neither words nor meaning: no frame of this "
                          'model, or too damaged; its text is ""', stacklevel=3)
        return readings

    @torch.no_grad()
    def bits(self, texts: str | list[str]) -> list[float]:
        """What the language model, with nothing else to go by, charges for each text, in bits, end token included."""
        ids, mask = self._tokenize(texts)
        out = []
        for start in range(0, len(ids), 16):
            part, keep = ids[start : start + 16], mask[start : start + 16]
            out += text_bits(self.told(part, keep, None, None), part, keep).tolist()
        return out

    @torch.no_grad()
    def interpolate(self, a: str, b: str, steps: int = 5) -> list[str]:
        """Texts from a to b, through their meaning: first a, last b, between them steps - 2 gists of mixed meanings, at
        equal distances. steps must be at least 2."""
        if steps < 2:
            raise ValueError(f"steps = {steps} must be at least 2")
        ids, mask = self._tokenize([a, b])
        first, last = self.meanings(ids, mask)
        shares = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[1:-1, None]
        middle = self.retell_meanings(torch.lerp(first, last, shares)) if steps > 2 else []
        return [a, *(self.tokenizer.decode(row, skip_special_tokens=True) for row in middle), b]

    def retell_meanings(self, meanings: Tensor) -> list[list[int]]:
        """Meanings (B, Dm) of any length -> `retell` of the tiles that a frame without words shows."""
        count, meaning = self.config.meaning_tiles, self.meaning
        codes = meaning.codes()[meaning.choose(meanings, count)]
        tiles = torch.full((len(meanings),), count, dtype=torch.float32, device=meanings.device)
        return retell(self, meaning.estimate(codes, tiles), tiles)

    def survive(self, text: str, ticks: int | None = None, noise: float = 0.5, seed: int = 0, redundant=False):
        """Write a text into a frame, disturb it, let the dynamics run, read it: returns (text read back, Trajectory).

        noise: amplitude of uniform noise added to every cell, then clipped to [-1, 1]; below 1 it keeps the signs.
        ticks: how long the automaton runs, at least 1; None: to its attractor. ValueError for a noise that is negative
        or no finite number, for ticks below 1, and where `text` is no str.
        """
        from wheeler_cpu import WheelerMemoryCPU, add_noise  # numba takes a second, which `import models` need not cost

        if not isinstance(text, str):
            raise ValueError(f"text is {type(text).__name__}; it must be one str")
        frame = self.encode_frame(text, redundant)[0]
        disturbed = add_noise(frame.numpy(), noise, np.random.default_rng(seed))
        dynamics = WheelerMemoryCPU(frame.shape[1], frame.shape[0])
        trajectory = dynamics.run_dynamics(disturbed, **({} if ticks is None else {"max_ticks": ticks}))
        return self.decode_frame(torch.as_tensor(trajectory.final_frame)), trajectory

    # ---- checkpoints ----

    def to_checkpoint(self) -> dict:
        """What a checkpoint needs to be self-contained, plain types only; train.py adds the state of training."""
        return {"format_version": CHECKPOINT_FORMAT, "config": asdict(self.config), "model": self.state_dict(),
                "tokenizer": None if self.tokenizer is None else tokenizer_to_dict(self.tokenizer)}

    @classmethod
    def from_checkpoint(cls, checkpoint: dict, name: str = "checkpoint") -> "WheelerTextAutoencoder":
        """The model of a dict as `to_checkpoint` writes it, in eval mode, or ValueError that says what is wrong."""
        stored, weights, tokenizer = plain_contents(checkpoint, name)
        # An entry that this version does not know may change what the model computes.
        unknown = stored.keys() - {field.name for field in fields(WheelerConfig)}
        if unknown:
            raise ValueError(f"{name} has unknown config entries: {', '.join(sorted(map(str, unknown)))}")
        try:
            config = WheelerConfig(**stored)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        check_sizes(config, {key: tuple(weight.shape) for key, weight in weights.items()}, name)
        model = cls(config, None if tokenizer is None else tokenizer_from_dict(tokenizer), start=False)
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise ValueError(f"{name} does not fit its own config: {str(error).splitlines()[-1].strip()}") from None
        return model.eval()

    @classmethod
    def load_from_checkpoint(cls, path: str | os.PathLike, map_location="cpu") -> "WheelerTextAutoencoder":
        """Load a checkpoint of train.py (weights only: loading never runs code), or a folder of `save_pretrained`, onto
        any device, in eval mode and float32. See `find_checkpoint` for what stands in for a best.pt that is not there.

        Raises FileNotFoundError where there is no such file, ValueError where it is not a checkpoint of this project.
        """
        found = find_checkpoint(path)
        # A fresh clone has no best.pt: the model that comes with the project stands in. It is said on stderr, so that
        # stdout stays what was asked for.
        announce(path, found)
        if not found.is_dir():
            return cls.from_checkpoint(read_checkpoint(found), str(path)).to(map_location)
        if not (found / "config.json").is_file():
            raise FileNotFoundError(f"no checkpoint at {path}: the folder has no config.json")
        try:
            return cls.from_pretrained(found).to(map_location)
        except OldFormat:
            raise
        except Exception as error:                                            # as many types as libraries take part
            reason = first_line(error)
            raise ValueError(f"{path} is not a readable model: {reason}") from None

    def fingerprint(self) -> str:
        """16 hex digits that name the weights. What `encode_frame` writes can only be read with the same ones."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy().astype("<f4", copy=False))
        return digest.hexdigest()[:16]

    def _save_pretrained(self, save_directory) -> None:
        # safetensors and not pickle, which can run code when it is loaded.
        save_weights(self.state_dict(), Path(save_directory), SHARD_SIZE)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, strict: bool = True, map_location="cpu", revision=None, cache_dir=None,
                         force_download=False, local_files_only=False, token=None, **model_kwargs):
        # The mixin's own method knows no shards, and its strict=False would leave random weights for missing names.
        folder = Path(model_id if os.path.isdir(model_id) else snapshot_download(
            model_id, revision=revision, cache_dir=cache_dir, force_download=force_download, token=token,
            local_files_only=local_files_only, allow_patterns=["*.safetensors", "*.json"]))
        if not isinstance(model_kwargs.get("config"), WheelerConfig):
            raise ValueError(f"{model_id} has no config.json of a Wheeler model")
        shapes = stored_shapes(folder)
        if any(key.startswith("frame.") for key in shapes):                   # the hub's mixin drops unknown entries
            raise OldFormat(model_id, 1)
        index = folder / "model.safetensors.index.json"                       # which knows of shards that are lost
        if "decoder.language_head.weight" not in (index.read_text(encoding="utf-8") if index.is_file() else shapes):
            raise OldFormat(model_id, 2)
        check_sizes(model_kwargs["config"], shapes, model_id)
        model = cls(**model_kwargs | {"start": not strict})                   # strict: the files have all weights
        load_torch_model(model, folder, strict=strict)                        # half precision becomes float32 here
        tokenizer = folder / "tokenizer.json"
        if model.tokenizer is None and tokenizer.is_file():                   # a model may be saved without one
            model.tokenizer = tokenizer_from_json(tokenizer.read_text(encoding="utf-8"), model.config)
        return model.to(map_location).eval()
