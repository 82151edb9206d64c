"""The two halves of the autoencoder, and the patches between them: text -> latents -> grid -> latents -> text.

Letters: B batch, T text tokens, L max_seq_len, V vocabulary, H = W grid_size in cells, p patch_size in cells,
N = (H/p)*(W/p) latents, D d_model, nh heads, hd = D // nh.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from wheeler.model.config import WheelerConfig, round_up
from wheeler.model.layers import MLP, Context, CrossAttention, Layer, linear, rotary_table, run_layer


class Encoder(nn.Module):
    """Text -> patch latents. forward: input_ids (B, T) int64, mask (B, T) bool -> (B, N, D) of unit rms."""

    grad_checkpointing = False                                                # see run_layer

    def __init__(self, c: WheelerConfig):
        super().__init__()
        self.max_seq_len = c.max_seq_len
        self.embedding = nn.Embedding(round_up(c.vocab_size), c.d_model)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.encoder_layers))
        self.norm_text = nn.LayerNorm(c.d_model, bias=False)
        self.blank = nn.Parameter(torch.empty(c.d_model))                     # stands where there is no text
        self.text_code = nn.Parameter(torch.empty(c.max_seq_len, c.d_model))
        self.patch_code = nn.Parameter(torch.empty(c.num_patches, c.d_model))
        self.patch_query = nn.Parameter(torch.empty(c.num_patches, c.d_model))
        self.norm_query, self.cross = nn.LayerNorm(c.d_model, bias=False), CrossAttention(c)
        self.norm_mlp = nn.LayerNorm(c.d_model, bias=False)
        self.mlp = MLP(c.d_model, 4 * c.d_model, c.d_model, c.dropout)
        self.norm_out = nn.LayerNorm(c.d_model, bias=False)
        self.register_buffer("rope", rotary_table(c.max_seq_len, c.d_model // c.num_heads), persistent=False)

    def states(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) -> what the self-attention layers make of each token, (B, T, D)."""
        x = self.embedding(input_ids)                                         # (B, T, D)
        for layer in self.layers:
            x = run_layer(self, layer, x, self.rope, mask[:, None, None, :])  # (B, T, D)
        return self.norm_text(x)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        # Every padded or missing position holds the same vector, so padding and batch mates change nothing, and the
        # cross-attention below needs no mask (an arbitrary mask loses the fast attention kernels).
        x = self.states(input_ids, mask)                                      # (B, T, D)
        x = torch.where(mask[..., None], x, self.blank.to(x.dtype))
        blank = self.blank.to(x.dtype).expand(len(x), self.max_seq_len - x.shape[1], -1)
        text = torch.cat([x, blank], dim=1)                                   # (B, L, D)
        latents = self.patch_query[None]                                      # (1, N, D): no text is in it yet
        context = self.cross.context(text, self.text_code, self.patch_code)
        latents = latents + self.cross(self.norm_query(latents), context)
        latents = latents + self.mlp(self.norm_mlp(latents))
        return self.norm_out(latents)                                         # (B, N, D)


class Patches(nn.Module):
    """Linear maps between patch latents (B, N, D) and the grid's cells (B, H, W, D)."""

    def __init__(self, c: WheelerConfig):
        super().__init__()
        self.side, self.p = c.grid_size // c.patch_size, c.patch_size
        self.unfold, self.fold = linear(c.d_model, self.p**2 * c.d_model), linear(self.p**2 * c.d_model, c.d_model)

    def to_grid(self, latents: Tensor) -> Tensor:
        return rearrange(self.unfold(latents), "b (h w) (p q d) -> b (h p) (w q) d", h=self.side, p=self.p, q=self.p)

    def from_grid(self, grid: Tensor) -> Tensor:
        return self.fold(rearrange(grid, "b (h p) (w q) d -> b (h w) (p q d)", p=self.p, q=self.p))


class Decoder(nn.Module):
    """Text from patch latents. forward: inputs (B, T) int64 shifted right, context of latents -> hidden (B, T, D)."""

    grad_checkpointing = False                                                # see run_layer

    def __init__(self, c: WheelerConfig):
        super().__init__()
        # A table of its own: with the encoder's, the previous token would compete with the one that is read.
        self.embedding = nn.Embedding(round_up(c.vocab_size), c.d_model)
        self.norm_latents = nn.LayerNorm(c.d_model, bias=False)
        self.grid_layers = nn.ModuleList(Layer(c) for _ in range(c.grid_layers))
        self.norm_memory = nn.LayerNorm(c.d_model, bias=False)
        self.target_code = nn.Parameter(torch.empty(c.max_seq_len, c.d_model))
        self.patch_code = nn.Parameter(torch.empty(c.num_patches, c.d_model))
        self.layers = nn.ModuleList(Layer(c, cross=True) for _ in range(c.decoder_layers))
        self.norm_out = nn.LayerNorm(c.d_model, bias=False)
        # Without a grid; with one, the encoder's table is the head (`WheelerTextAutoencoder.head`).
        self.language_head = linear(c.d_model, round_up(c.vocab_size))
        length = max(c.max_seq_len, c.num_patches)
        self.register_buffer("rope", rotary_table(length, c.d_model // c.num_heads), persistent=False)

    def context(self, latents: Tensor) -> list[Context]:
        """What every layer's cross-attention reads of latents (B, N, D)."""
        x = self.norm_latents(latents)
        for layer in self.grid_layers:
            x = run_layer(self, layer, x, self.rope)                          # (B, N, D)
        x = self.norm_memory(x)
        return [layer.cross.context(x, self.patch_code, self.target_code) for layer in self.layers]

    def forward(self, inputs: Tensor, context: list[Context] | None, told: Tensor | None = None) -> Tensor:
        """context: what `context(latents)` gives; None: blank latents, the decoder as a language model. told (B, T, D):
        what `Meaning.injection` says."""
        x = self.embedding(inputs)                                            # (B, T, D)
        x = x if told is None else x + told
        for layer, read in zip(self.layers, context or [None] * len(self.layers), strict=True):
            x = run_layer(self, layer.decode, x, self.rope, read)
        return self.norm_out(x)                                               # (B, T, D)

    def draft(self, context: list[Context], length: int) -> Tensor:
        """forward for `length` positions as if nothing were known of the tokens before them: (B, length, D), what the
        latents alone say. Self-attention, which has nothing to look at, is left out."""
        x = self.target_code.new_zeros(1, length, self.target_code.shape[1])
        for layer, read in zip(self.layers, context, strict=True):
            x = x + layer.cross(layer.norm_cross(x), read)                    # (B, length, D)
            x = x + layer.mlp(layer.norm_mlp(x))
        return self.norm_out(x)

    def new_caches(self, rows: int, length: int) -> list[Tensor]:
        """Room for the keys and values of `length` positions, (2, rows, nh, length, hd) a layer."""
        nh, hd = self.layers[0].self_attention.num_heads, self.rope.shape[-1]
        return [self.target_code.new_empty(2, rows, nh, length, hd) for _ in self.layers]

    def step(self, inputs: Tensor, context: list[Context] | None, caches: list[Tensor], t: int,
             told: Tensor | None = None) -> Tensor:
        """forward for the positions from t on, with what `caches` hold of those before. inputs: (B, T); told:
        (B, T, D); returns (B, T, D)."""
        x = self.embedding(inputs)
        x = x if told is None else x + told
        for layer, read, cache in zip(self.layers, context or [None] * len(self.layers), caches, strict=True):
            x = layer.decode(x, self.rope, read, cache, t)
        return self.norm_out(x)
