"""Laws of the model: shapes, padding, causality, cache, aligned start, checkpoints, bad input. Tiny sizes, seeded."""

import json
import math
import os
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from models import WheelerTextAutoencoder
from wheeler.model.checkpoint import read_checkpoint
from wheeler.model.config import WheelerConfig
from wheeler.model.decoding import choose_token
from wheeler.model.tokenizer import tokenizer_from_dict, tokenizer_to_dict, train_tokenizer

TEXTS = ["Once upon a time there was a rabbit.", "", "The rabbit ran home. “Where is Zoë?” said the fox.", "A red hat"]
TINY = dict(vocab_size=320, grid_size=16, d_model=64, max_seq_len=16, encoder_layers=1, grid_layers=1, decoder_layers=2)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 4, 320)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return WheelerTextAutoencoder(WheelerConfig(**TINY), tokenizer).eval()


@pytest.fixture
def wide(tokenizer):
    """A model whose frame holds any text of its 16 tokens: 299 bits."""
    torch.manual_seed(0)
    return WheelerTextAutoencoder(WheelerConfig(**TINY | {"grid_size": 32}), tokenizer).eval()


@pytest.fixture
def scrambled(model):
    """A model away from its start: every branch is alive, so that laws of attention and caching are really tested."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, 320, (rows, length), generator=torch.Generator().manual_seed(2))


# ---- the user's view ------------------------------------------------------------------------------------------------


def test_the_steps_after_training(wide, tmp_path):
    torch.save(wide.to_checkpoint(), tmp_path / "best.pt")
    model = WheelerTextAutoencoder.load_from_checkpoint(tmp_path / "best.pt")
    grid = model.encode("A red hat")
    assert grid.shape == (1, 32, 32, 64) and grid.dtype == torch.float32
    frame = model.get_grid_as_image(grid)
    assert frame.shape == (1, 32, 32) and frame.dtype == torch.float32 and set(frame.unique().tolist()) == {-1.0, 1.0}
    tokenizer = model.tokenizer
    text = model.decode(grid, start_token_id=tokenizer.bos_token_id, end_token_id=tokenizer.eos_token_id)
    assert text == "A red hat"
    assert model.decode(model.set_grid_from_image(frame)) == "A red hat"
    assert model.decode(grid[0]) == "A red hat"


def test_several_texts_and_the_empty_one(model):
    short = [text[:14] for text in TEXTS]
    grids = model.encode(short)
    assert grids.shape == (4, 16, 16, 64)
    assert model.decode(grids) == short


def test_the_frame_is_that_of_the_text_in_the_grid(wide):
    """The same frame by either way, whatever its batch; only its signs are read."""
    short = [text[:14] for text in TEXTS]
    grids = wide.encode(short)
    frames = wide.get_grid_as_image(grids)
    assert torch.equal(frames, wide.encode_frame(short))
    assert all(torch.equal(wide.get_grid_as_image(grid)[0], frame) for grid, frame in zip(grids, frames, strict=True))
    for given in (frames, 0.01 * frames, frames.double()):
        read = wide.set_grid_from_image(given)
        assert wide.decode(read) == short == wide.decode_frame(given) and torch.allclose(read, grids, atol=1e-5)
    assert torch.allclose(wide.set_grid_from_image(frames[3]), grids[3:], atol=1e-5)


def test_the_frame_of_a_grid_without_an_end_is_cut_to_make_room_for_one(wide):
    ids = random_ids(1, 16)
    read = wide.set_grid_from_image(wide.get_grid_as_image(wide.encode(ids)))
    assert wide.decode(read, return_ids=True) == ids[:, :15].tolist()


def test_a_text_that_does_not_fit_into_the_frame_is_said(model):
    texts = ["", "The rabbit ran home. “Zoë"]
    said = "text 1 costs [0-9]+ bits under this model, a frame of 16 x 16 holds"
    grids = model.encode(texts)
    assert model.decode(grids) == texts
    for write in (lambda: model.get_grid_as_image(grids), lambda: model.encode_frame(texts)):
        with pytest.warns(UserWarning, match=f"{said} .*: the frame holds its gist, not its words"):
            assert write().shape == (2, 16, 16)
    with pytest.raises(ValueError, match=said):
        model.encode_frame(texts, strict=True)


def test_the_grid_of_a_damaged_frame_is_that_of_its_gist(wide):
    frame = wide.encode_frame("A red hat")
    frame[0, 16:] *= -1                                                       # where the words are
    with pytest.warns(UserWarning, match="frame 0: no words to be trusted"):
        grid = wide.set_grid_from_image(frame)
    with pytest.warns(UserWarning, match="frame 0: no words to be trusted"):
        text = wide.decode_frame(frame)
    assert grid.shape == (1, 32, 32, 64) and text != "A red hat" and wide.decode(grid)[:14] == text[:14]


def test_the_default_model_has_the_documented_size():
    model = WheelerTextAutoencoder(WheelerConfig())
    parameters = sum(p.numel() for p in model.parameters())
    assert 24e6 <= parameters <= 26e6
    ids = torch.randint(3, 8192, (2, 12))
    with torch.no_grad():
        logits, grid = model(ids, torch.ones(2, 12))
    assert logits.shape == (2, 12, 8192) and grid.shape == (2, 64, 64, 256)
    assert (logits.argmax(-1) == ids).all()


def test_import_is_light_and_silent():
    code = ("import sys, models; heavy = {'transformers', 'datasets', 'wandb', 'numba', 'scipy'} & set(sys.modules);"
            "assert not heavy, heavy; import torch; assert not torch.cuda.is_initialized()")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "" and result.stderr == ""


# ---- laws -----------------------------------------------------------------------------------------------------------


def test_documented_shapes_of_the_parts(scrambled):
    ids, mask = random_ids(3, 9), torch.ones(3, 9, dtype=torch.bool)
    latents = scrambled.encoder(ids, mask)
    assert latents.shape == (3, 16, 64)
    assert scrambled.patches.to_grid(latents).shape == (3, 16, 16, 64)
    context = scrambled.decoder.context(latents)
    assert len(context) == 2 and context[0][0].shape == context[0][1].shape == (3, 1, 16, 64)
    assert context[0][2].shape == (16, 64)
    assert scrambled.decoder(ids, context).shape == scrambled.decoder(ids, None).shape == (3, 9, 64)


def test_a_patch_is_where_the_grid_says(scrambled):
    """Cell (i, j) of the grid belongs to patch (i // p, j // p): changing one latent changes that square only."""
    latents = torch.randn(1, 16, 64)
    changed = latents.clone()
    changed[0, 6] += 1                                                        # row 1, column 2 of 4 x 4 patches
    difference = (scrambled.patches.to_grid(latents) - scrambled.patches.to_grid(changed)).abs().sum(-1)[0]
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:8, 8:12] = True
    assert ((difference > 0) == inside).all()


def test_padding_changes_nothing(scrambled):
    ids = random_ids(2, 7)
    padded = F.pad(ids, (0, 9), value=5)                                      # a real token: only the mask says padding
    mask = torch.arange(16).expand(2, 16) < 7
    grid = scrambled.encode(ids)
    assert torch.allclose(grid, scrambled.encode(padded, mask), atol=1e-5)
    assert not torch.allclose(grid, scrambled.encode(padded), atol=1e-2)
    logits, _ = scrambled(ids)
    assert torch.allclose(logits, scrambled(padded, mask)[0][:, :7], atol=1e-4)


def test_a_text_never_depends_on_its_batch(scrambled):
    texts = [text[:14] for text in TEXTS]
    together = scrambled.encode(texts)
    for i, text in enumerate(texts):
        alone = scrambled.encode(text)
        assert torch.allclose(alone[0], together[i], atol=1e-5)


def test_a_later_token_never_changes_an_earlier_logit(scrambled):
    latents, ids = torch.randn(1, 16, 64), random_ids(1, 10)
    changed = ids.clone()
    changed[0, 6:] = 7
    context = scrambled.decoder.context(latents)
    before, after = scrambled.decoder(ids, context), scrambled.decoder(changed, context)
    assert torch.allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert (before[:, 6:] - after[:, 6:]).abs().amax(-1).min() > 1e-3


def test_teacher_forcing_is_shifted_by_bos(scrambled):
    ids = random_ids(2, 6)
    latents = scrambled.encoder(ids, torch.ones_like(ids, dtype=torch.bool))
    latents = scrambled.patches.from_grid(scrambled.patches.to_grid(latents))
    inputs = torch.cat([torch.full((2, 1), scrambled.config.bos_token_id), ids[:, :-1]], 1)
    by_hand = scrambled.head(scrambled.decoder(inputs, scrambled.decoder.context(latents)), grid=True)
    assert torch.allclose(scrambled(ids)[0], by_hand, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_cached_decoding_equals_full_decoding(scrambled, rows):
    grid = torch.randn(rows, 16, 16, 64)
    cached, full = (scrambled.decode(grid, use_cache=use, return_ids=True) for use in (True, False))
    assert cached == full and len({tuple(row) for row in cached}) == rows
    latents, ids = scrambled.patches.from_grid(grid), random_ids(rows, 16)
    context = scrambled.decoder.context(latents)
    for read in (context, None):
        caches = [cache.fill_(torch.nan) for cache in scrambled.decoder.new_caches(rows, 16)]
        steps = torch.cat([scrambled.decoder.step(ids[:, t : t + 1], read, caches, t) for t in range(16)], 1)
        assert torch.allclose(steps, scrambled.decoder(ids, read), atol=1e-4)


def test_blank_rows_are_a_language_model(scrambled):
    """Blank rows read nothing, under a head of their own: they equal decoding from zero latents otherwise."""
    ids = random_ids(3, 8)
    logits, grid = scrambled(ids, blank_rows=1)
    assert grid.shape == (2, 16, 16, 64)
    assert torch.allclose(logits[:2], scrambled(ids)[0][:2], atol=1e-5)
    zero = scrambled.decoder.context(torch.zeros(1, 16, 64))
    hidden = scrambled.decoder(F.pad(ids[2:, :-1], (1, 0)), zero)
    assert torch.allclose(logits[2:], scrambled.head(hidden, grid=False), atol=1e-5)
    assert torch.allclose(scrambled(ids, blank_rows=3)[0][2:], logits[2:], atol=1e-5)
    for rows in (4, -1):
        with pytest.raises(ValueError, match=f"blank_rows = {rows} do not fit a batch of 3"):
            scrambled(ids, blank_rows=rows)


def test_fused_attention_equals_the_formula(scrambled):
    layer, x = scrambled.decoder.layers[0], torch.randn(2, 9, 64)
    rope = scrambled.decoder.rope
    q, k, v = layer.self_attention.heads(x, rope[:, :9])
    scores = (q @ k.transpose(-1, -2) / math.sqrt(64)).masked_fill(~torch.ones(9, 9).tril().bool(), -math.inf)
    by_hand = layer.self_attention.out((scores.softmax(-1) @ v)[:, 0])        # one head
    assert torch.allclose(layer.self_attention(x, rope, causal=True), by_hand, atol=1e-5)


def test_every_row_stops_at_its_own_end(model):
    ids = random_ids(3, 16)
    ids[0, 4], ids[1, 9], ids[2, 15] = 1, 1, 1
    assert [len(row) for row in model.decode(model.encode(ids), return_ids=True)] == [4, 9, 15]
    no_end = random_ids(1, 16)
    assert model.decode(model.encode(no_end), return_ids=True) == no_end.tolist()    # never past its positions
    assert model.decode(model.encode(no_end), return_ids=True, max_length=5) == no_end[:, :5].tolist()


def test_sampling(scrambled):
    grid = torch.randn(4, 16, 16, 64)
    seeded = lambda seed: torch.Generator().manual_seed(seed)
    run = lambda seed, **kw: scrambled.decode(grid, return_ids=True, generator=seeded(seed), **kw)
    assert run(0, temperature=1.0) == run(0, temperature=1.0) != run(1, temperature=1.0)
    greedy = scrambled.decode(grid, return_ids=True)
    assert run(3, temperature=1.0, top_k=1) == greedy == run(4, temperature=1.0, top_p=1e-6) == run(5, temperature=1e-4)
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(4000, 1)
    counts = torch.bincount(choose_token(logits, 1.0, 0, 1.0, seeded(0)), minlength=4) / 4000
    assert torch.allclose(counts, logits[0].softmax(-1), atol=0.03)
    assert choose_token(logits, 1.0, 2, 1.0, None).max() == 1
    assert choose_token(logits, 1.0, 0, 0.8, None).max() == 1            # 0.64 < 0.8 <= 0.64 + 0.24


def test_every_constructor_argument_has_an_effect():
    base = WheelerTextAutoencoder(WheelerConfig(**TINY))
    count = lambda m: sum(p.numel() for p in m.parameters())
    for change in (dict(vocab_size=400), dict(grid_size=32), dict(d_model=128), dict(patch_size=2),
                   dict(max_seq_len=12), dict(encoder_layers=2), dict(grid_layers=2), dict(decoder_layers=1)):
        assert count(WheelerTextAutoencoder(WheelerConfig(**TINY | change))) != count(base), change
    ids = random_ids(2, 8)
    outputs = {}
    for name, change in dict(base={}, heads=dict(num_heads=2), start=dict(aligned_start=False)).items():
        torch.manual_seed(0)
        outputs[name] = WheelerTextAutoencoder(WheelerConfig(**TINY | change))(ids)[0]
    assert not torch.allclose(outputs["base"], outputs["heads"])
    assert not torch.allclose(outputs["base"], outputs["start"])
    torch.manual_seed(0)
    dropping = WheelerTextAutoencoder(WheelerConfig(**TINY, dropout=0.5)).train()
    assert not torch.allclose(dropping(ids)[0], dropping(ids)[0])
    assert torch.allclose(dropping.eval()(ids)[0], outputs["base"], atol=1e-5)
    torch.manual_seed(0)
    other = WheelerTextAutoencoder(WheelerConfig(**TINY, bos_token_id=9))
    assert not torch.allclose(outputs["base"], other(ids)[0])
    torch.manual_seed(0)
    base = WheelerTextAutoencoder(WheelerConfig(**TINY)).eval()
    row, = base.decode(base.encode(ids[:1]), return_ids=True, end_token_id=0)
    torch.manual_seed(0)
    ends = WheelerTextAutoencoder(WheelerConfig(**TINY, eos_token_id=row[2])).eval()
    assert ends.decode(ends.encode(ids[:1]), return_ids=True) == [row[: row.index(row[2])]]


def test_patch_size_is_the_largest_with_a_patch_for_every_token():
    for grid, length, patch in ((64, 256, 4), (32, 256, 2), (32, 64, 4), (64, 64, 8), (32, 16, 8), (32, 2000, 1),
                                (6, 9, 2)):
        assert WheelerConfig(grid_size=grid, max_seq_len=length).patch_size == patch


# ---- aligned start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, dict(grid_size=64, max_seq_len=64, d_model=128), dict(grid_size=32),
                                    dict(grid_size=8)])
def test_aligned_start_copies_any_tokens(change):
    """Random tokens through the grid; the usual start cannot."""
    torch.manual_seed(0)
    config = WheelerConfig(**TINY | change)
    model, ids = WheelerTextAutoencoder(config).eval(), random_ids(8, config.max_seq_len)
    grid = model.encode(ids)
    assert model.decode(grid, return_ids=True) == ids.tolist()
    assert F.cross_entropy(model(ids)[0].flatten(0, 1), ids.flatten()) < 0.5
    usual = WheelerTextAutoencoder(WheelerConfig(**TINY | change, aligned_start=False)).eval()
    read = usual.decode(usual.encode(ids), return_ids=True)
    assert not any(out == reference for out, reference in zip(read, ids.tolist(), strict=True))


def test_one_batch_overfits_without_the_aligned_start():
    torch.manual_seed(0)
    model = WheelerTextAutoencoder(WheelerConfig(**TINY, aligned_start=False)).train()
    ids = random_ids(4, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(200):
        loss = F.cross_entropy(model(ids)[0].flatten(0, 1), ids.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1            # guessing the four first tokens costs log(4) each, 0.17 a token: the grid is read
    tiles = torch.tensor([3, 2, 1, 3])
    F.cross_entropy(model(ids, meaning_tiles=tiles)[0].flatten(0, 1), ids.flatten()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without, "a parameter without a gradient"


# ---- checkpoints and the hub ----------------------------------------------------------------------------------------


def test_checkpoint_round_trip(scrambled, tmp_path):
    torch.save(scrambled.to_checkpoint(), tmp_path / "a.pt")
    loaded = WheelerTextAutoencoder.load_from_checkpoint(tmp_path / "a.pt", map_location="cpu")
    assert not loaded.training and loaded.config == scrambled.config
    for name, value in scrambled.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert tokenizer_to_dict(loaded.tokenizer) == tokenizer_to_dict(scrambled.tokenizer)


def test_a_packed_model_is_as_open_as_the_umask_says(model, tmp_path):
    before = os.umask(0o002)
    try:
        model.save_pretrained(tmp_path / "hub")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "hub").iterdir()} == {0o664}
    assert (tmp_path / "hub").stat().st_mode & 0o777 == 0o775 and (tmp_path / "hub" / "model.safetensors").is_file()


def test_save_pretrained_round_trip(scrambled, tmp_path, capsys):
    scrambled.save_pretrained(tmp_path / "hub")
    names = {path.name for path in (tmp_path / "hub").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    loaded = WheelerTextAutoencoder.from_pretrained(tmp_path / "hub")
    assert loaded.config == scrambled.config and not loaded.training
    assert torch.equal(loaded.encode("A hat"), scrambled.encode("A hat"))
    assert loaded.tokenizer("A <|eos|> hat").input_ids == scrambled.tokenizer("A <|eos|> hat").input_ids


def test_loading_draws_no_random_numbers(scrambled, tmp_path):
    """A start that the checkpoint overwrites at once took a tenth of the time that a command needs."""
    torch.save(scrambled.to_checkpoint(), tmp_path / "a.pt")
    scrambled.save_pretrained(tmp_path / "hub")
    before = torch.get_rng_state()
    for name in ("a.pt", "hub"):
        loaded = WheelerTextAutoencoder.load_from_checkpoint(tmp_path / name)
        assert loaded.fingerprint() == scrambled.fingerprint()
        for name, buffer in scrambled.named_buffers():                        # those that no checkpoint holds as well
            assert torch.equal(loaded.get_buffer(name), buffer)
    assert torch.equal(torch.get_rng_state(), before)
    WheelerTextAutoencoder(scrambled.config)
    assert not torch.equal(torch.get_rng_state(), before)                     # a new model draws its start


def test_bad_checkpoints_are_clear_errors(model, tmp_path):
    load = WheelerTextAutoencoder.load_from_checkpoint
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*train.py"):
        load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load(tmp_path / "text.pt")
    torch.save({"weights": 1}, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match="not a Wheeler checkpoint"):
        load(tmp_path / "foreign.pt")
    good = model.to_checkpoint()
    for name, value, message in (("format_version", 99, "format version 99"),
                                 ("format_version", torch.ones(2), "format version tensor"),
                                 ("config", {"depth": 3}, "depth"),
                                 ("config", good["config"] | {"d_model": 128}, "does not fit")):
        torch.save(good | {name: value}, tmp_path / "bad.pt")
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "bad.pt")
    torch.save(good | {"config": good["config"] | {"frame_code": "cells"}}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="unknown config entries: frame_code"):
        load(tmp_path / "bad.pt")
    torch.save(good, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load(tmp_path / "half.pt")


def test_what_an_earlier_version_wrote_is_refused_in_one_line(model, tmp_path):
    load, message = WheelerTextAutoencoder.load_from_checkpoint, (
        "{} was written by an earlier version of this project (format {}, this one reads 3) and cannot be read: train "
        "again")
    old = model.to_checkpoint() | {"format_version": 1}
    torch.save(old, tmp_path / "old.pt")
    model.save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(json.dumps(config | {"frame_code": "cells"}))
    assert load(tmp_path / "old").config == model.config                      # only the weights tell
    weights = load_file(tmp_path / "old" / "model.safetensors") | {"frame.norm_in.weight": torch.ones(64)}
    save_file(weights, tmp_path / "old" / "model.safetensors")
    for call, name in ((lambda: load(tmp_path / "old.pt"), tmp_path / "old.pt"),
                       (lambda: read_checkpoint(tmp_path / "old.pt"), tmp_path / "old.pt"),
                       (lambda: WheelerTextAutoencoder.from_checkpoint(old), "checkpoint"),
                       (lambda: load(tmp_path / "old"), tmp_path / "old"),
                       (lambda: WheelerTextAutoencoder.from_pretrained(tmp_path / "old"), tmp_path / "old")):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == message.format(name, 1)
    # Format 2 had one head for what a grid says and for the language model.
    model.save_pretrained(tmp_path / "second")
    weights = load_file(tmp_path / "second" / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "language_head" not in k}, tmp_path / "second" / "model.safetensors")
    torch.save(model.to_checkpoint() | {"format_version": 2}, tmp_path / "second.pt")
    for name in ("second", "second.pt"):
        with pytest.raises(ValueError) as error:
            load(tmp_path / name)
        assert str(error.value) == message.format(tmp_path / name, 2)


def test_loading_never_runs_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"format_version": 2, "config": {}, "model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "evil.pt")


def test_tokenizer_survives_as_plain_strings(tokenizer):
    state = json.loads(json.dumps(tokenizer_to_dict(tokenizer)))
    again = tokenizer_from_dict(state)
    for text in (*TEXTS, "日本 😀 é́ \n\t <|eos|><|pad|> \x00", "don't , stop . now"):
        ids = again(text).input_ids
        assert ids == tokenizer(text).input_ids and ids[-1] == 1 and ids.count(1) == 1
        assert again.decode(ids, skip_special_tokens=True) == text


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_long_text_is_cut_with_a_warning(model):
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than max_seq_len = 16"):
        grid = model.encode(["word " * 40, "hat"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = model.decode(grid)
    assert ("word " * 40).startswith(texts[0]) and texts[1] == "hat"


@pytest.mark.parametrize("bad, message", [
    ([], "at least one"), (3, "wanted a str"), (None, "wanted a str"), (["a", 3], "int"), ("\ud800", "Unicode"),
    (torch.zeros(1, 4), "dtype"), (torch.zeros(4, dtype=torch.long), "shape"),
    (torch.zeros(1, 17, dtype=torch.long), "17"), (torch.full((1, 4), 320), "320"),
    (torch.full((1, 4), -1), "-1"), (torch.zeros(0, 4, dtype=torch.long), "shape"),
])
def test_bad_texts(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.encode(bad)
    if not isinstance(bad, torch.Tensor):
        with pytest.raises(ValueError, match=message):
            model.encode_frame(bad)


def test_temperatures_at_the_ends_of_their_range(model):
    grid = model.encode("A red hat")
    assert model.decode(grid, temperature=1e-40) == model.decode(grid) == "A red hat"
    with pytest.raises(ValueError, match="temperature = nan"):
        model.decode(grid, temperature=float("nan"))


def test_pictures_need_no_detach(wide):
    frame = wide.get_grid_as_image(wide.encode("A red hat"))
    assert frame.numpy().shape == (1, 32, 32) and not wide.set_grid_from_image(frame).requires_grad


def test_bad_masks(model):
    ids = random_ids(2, 4)
    for mask in (torch.tensor([[0, 1, 1, 1]] * 2), torch.zeros(2, 4), torch.tensor([[1, 0, 1, 1]] * 2)):
        with pytest.raises(ValueError, match="padding on the right"):
            model.encode(ids, mask)
    with pytest.raises(ValueError, match="shape"):
        model.encode(ids, torch.ones(2, 3))


@pytest.mark.parametrize("bad, message", [
    (torch.zeros(1, 16, 16), "shape"), (torch.zeros(0, 16, 16, 64), "shape"), (torch.zeros(1, 16, 16, 65), "65"),
    (torch.zeros(1, 16, 16, 64, dtype=torch.long), "int64"), (torch.full((1, 16, 16, 64), torch.nan), "NaN"),
    (torch.full((1, 16, 16, 64), torch.inf), "infinite"), ("text", "str"),
    (torch.zeros(1, 16, 16, 64, device="meta"), "meta"),
])
def test_bad_grids(model, bad, message):
    for call in (model.decode, model.get_grid_as_image):
        with pytest.raises(ValueError, match=message):
            call(bad)


def test_bad_frames_and_decode_arguments(model):
    for bad, message in ((torch.full((16, 16), 1.5), r"\[-1, 1\]"), (torch.zeros(8, 8), "shape"),
                         (torch.full((1, 16, 16), torch.nan), "NaN")):
        with pytest.raises(ValueError, match=message):
            model.set_grid_from_image(bad)
    grid = model.encode("hat")
    for bad in (dict(max_length=0), dict(max_length=17), dict(temperature=-1), dict(top_k=-1), dict(top_p=0),
                dict(start_token_id=320), dict(end_token_id=-1)):
        with pytest.raises(ValueError, match=next(iter(bad))):
            model.decode(grid, **bad)
    assert model.decode(grid.double()) == model.decode(grid) == "hat"


def test_without_a_tokenizer():
    model = WheelerTextAutoencoder(WheelerConfig(**TINY)).eval()
    with pytest.raises(ValueError, match="no tokenizer"):
        model.encode("hat")
    grid = model.encode(torch.tensor([[5, 6, 1]]))
    with pytest.raises(ValueError, match="no tokenizer"):
        model.decode(grid)
    assert model.decode(grid, return_ids=True) == [[5, 6]]


@pytest.mark.parametrize("bad, message", [
    (dict(grid_size=0), "grid_size = 0"), (dict(patch_size=3), "patch_size = 3 must divide grid_size = 64"),
    (dict(num_heads=3), "num_heads = 3"), (dict(dropout=1.0), "dropout"), (dict(eos_token_id=0), "differ"),
    (dict(pad_token_id=9000), "9000"),
    (dict(decoder_layers=0), "decoder_layers"), (dict(encoder_layers=-1), "encoder_layers"),
])
def test_bad_configs(bad, message):
    with pytest.raises(ValueError, match=message):
        WheelerConfig(**bad)


def test_a_tokenizer_must_fit(tokenizer):
    with pytest.raises(ValueError, match="more than vocab_size"):
        WheelerTextAutoencoder(WheelerConfig(**TINY | dict(vocab_size=280)), tokenizer)
    with pytest.raises(ValueError, match="WheelerConfig"):
        WheelerTextAutoencoder({"grid_size": 64})


def test_frames_copy_the_decoder_once_and_again_when_a_weight_changes(model):
    model = WheelerTextAutoencoder.from_checkpoint(model.to_checkpoint())
    code = model.frame_code()
    model.encode_frame("hat")
    assert model.frame_code() is code
    for change in (lambda weight: weight.data.add_(1), lambda weight: weight.data.sub_(1),
                   lambda weight: setattr(weight, "data", weight.data.clone())):
        with torch.no_grad():
            change(model.decoder.norm_out.weight)
        assert model.frame_code() is not code
        code = model.frame_code()
    with torch.no_grad():
        model.meaning.centre.mul_(-1)
    assert model.frame_code() is not code and model.frame_code().fingerprint != code.fingerprint


def test_frames_refuse_weights_that_are_no_numbers(model):
    for value in (math.nan, math.inf):
        broken = WheelerTextAutoencoder.from_checkpoint(model.to_checkpoint())
        with torch.no_grad():
            broken.decoder.language_head.weight[5, 0] = value
        with pytest.raises(ValueError, match="decoder.language_head.weight have NaN or infinite"):
            broken.encode_frame("hat")


def test_strict_frames_refuse_cut_texts(model):
    with pytest.raises(ValueError, match="1 of 2 texts are longer than max_seq_len"):
        model.encode_frame(["hat", "hat " * 500], strict=True)


def test_a_batch_without_grids_does_not_run_the_encoder(model, monkeypatch):
    """cuDNN's attention gives None for an empty batch (seen with torch 2.11), on which training on a GPU broke."""
    monkeypatch.setattr(model.encoder, "forward", lambda *_: pytest.fail("the encoder ran"))
    ids = random_ids(3, 8)
    logits, grid = model(ids, blank_rows=3)
    size = model.config.grid_size
    assert logits.shape[:2] == (3, 8) and grid.shape == (0, size, size, model.config.d_model)


@pytest.mark.gpu
def test_on_a_gpu(scrambled):
    scrambled = scrambled.cuda()
    ids = random_ids(4, 16).cuda()
    cpu = WheelerTextAutoencoder.from_checkpoint(scrambled.to_checkpoint())
    assert torch.allclose(scrambled(ids)[0].cpu(), cpu(ids.cpu())[0], atol=1e-2)
    assert scrambled.decode(scrambled.encode("hat")) == cpu.decode(cpu.encode("hat"))
    with torch.autocast("cuda", torch.float16):
        assert torch.isfinite(scrambled(ids, blank_rows=2)[0]).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_another_default_dtype_changes_nothing(small_model, tmp_path, dtype):
    """As a notebook may have set it: models load in float32, under the same name, and write the same frames."""
    small_model.save_pretrained(tmp_path / "packed")
    torch.save(small_model.to_checkpoint(), tmp_path / "best.pt")
    wanted = small_model.encode_frame(["Tom had a red ball.", "Hi"])
    told = small_model.interpolate("Tom had a red ball.", "Hi", 3)
    torch.manual_seed(0)
    fresh = WheelerTextAutoencoder(small_model.config)
    try:
        torch.set_default_dtype(dtype)
        for name in ("packed", "best.pt"):
            model = WheelerTextAutoencoder.load_from_checkpoint(tmp_path / name)
            assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}
            assert model.meaning.rows.dtype == torch.float32 and model.fingerprint() == small_model.fingerprint()
            frames = model.encode_frame(["Tom had a red ball.", "Hi"])
            assert frames.dtype == torch.float32 and torch.equal(frames, wanted)
            assert model.decode_frame(frames) == ["Tom had a red ball.", "Hi"] == model.decode(
                model.encode(["Tom had a red ball.", "Hi"]))
            assert model.interpolate("Tom had a red ball.", "Hi", 3) == told
        torch.manual_seed(0)
        assert WheelerTextAutoencoder(small_model.config).fingerprint() == fresh.fingerprint()
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
