"""Decoding all tokens at once gives the token ids of the loop, token by token, whatever the grid."""

from pathlib import Path

import pytest
import torch

from models import WheelerTextAutoencoder
from wheeler.model import parallel
from wheeler.model.checkpoint import SHIPPED
from wheeler.model.config import WheelerConfig


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def new_model(layers: int, noise: float) -> WheelerTextAutoencoder:
    """A model of 16 tokens that copies, or, its weights disturbed, hardly does."""
    model = WheelerTextAutoencoder(WheelerConfig(vocab_size=256, grid_size=16, d_model=64, max_seq_len=16, patch_size=4,
                                                 encoder_layers=1, decoder_layers=layers)).eval()
    for weight in model.parameters():
        weight.data += noise * torch.randn_like(weight)
    return model


def texts(rows: int, length: int = 16, vocabulary: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Random token ids of random lengths, closed by the end token, and their mask."""
    ids, ends = torch.randint(3, vocabulary, (rows, length)), torch.randint(1, length, (rows, 1))
    return ids.scatter(1, ends, 1), torch.arange(length) <= ends


def kinds(grid: torch.Tensor) -> dict[str, torch.Tensor]:
    """Grids that say a text, half a text, two texts, or nothing."""
    noise = grid.std() * torch.randn_like(grid)
    return {"whole": grid, "noisy": grid + 3 * noise, "lost": grid + 30 * noise, "random": torch.randn_like(grid),
            "mixed": (grid + grid.flip(0)) / 2, "blank": torch.zeros_like(grid[:1]), "one": grid[:1],
            "half": grid * (torch.arange(grid.shape[1], device=grid.device) < grid.shape[1] // 2)[:, None, None]}


def differences(model, grid, **options) -> int:
    both = [model.decode(grid, return_ids=True, parallel=way, **options) for way in (True, False)]
    return sum(a != b for a, b in zip(*both, strict=True))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("noise", [0, 0.02, 0.1, 0.3])
def test_all_at_once_is_token_by_token(layers, noise):
    """8 models, 338 grids each."""
    model = new_model(layers, noise)
    for kind, grid in kinds(model.encode(*texts(56))).items():
        assert differences(model, grid) == 0, kind
    assert differences(model, grid, max_length=5) == differences(model, grid, start_token_id=9, end_token_id=77) == 0


def test_a_copy_takes_one_pass(monkeypatch):
    model, calls = new_model(2, 0), []
    step = model.decoder.step
    monkeypatch.setattr(model.decoder, "step", lambda inputs, *rest: calls.append(inputs.shape) or step(inputs, *rest))
    ids, mask = texts(5)
    grid = model.encode(ids, mask)
    assert model.decode(grid, return_ids=True) == [row[keep].tolist()[:-1] for row, keep in zip(ids, mask, strict=True)]
    assert calls == [(5, int(mask.sum(1).max()))]                             # no further than the longest text
    calls.clear()
    model.decode(grid, return_ids=True, parallel=False)
    assert calls == [(5, 1)] * int(mask.sum(1).max())


def test_a_wrong_guess_is_found_out(monkeypatch):
    """With a draft that knows nothing, passes and loop still find every token."""
    model = new_model(2, 0)
    grid = model.encode(*texts(20))
    monkeypatch.setattr(model.decoder, "draft", lambda context, length: torch.randn(20, length, 64))
    assert differences(model, grid) == 0
    monkeypatch.setattr(parallel, "PASSES", 1)
    assert differences(model, grid) == 0


def test_a_choice_that_rounding_could_turn_is_left_to_the_loop(monkeypatch):
    """Two tokens with one vector have one logit: which of them comes first is the loop's to say."""
    model, looped = new_model(1, 0), []
    model.encoder.embedding.weight.data[100] = model.encoder.embedding.weight.data[99]
    ids = torch.tensor([[5, 99, 7, 1], [6, 8, 9, 1]])
    grid, loop = model.encode(ids), parallel.decode_loop
    monkeypatch.setattr("models.decode_loop", lambda model, left, *rest: looped.append(left.rows.tolist()) or loop(
        model, left, *rest))
    model.decode(grid, return_ids=True)
    assert looped == [[0]] and differences(model, grid) == 0


def test_sampling_goes_token_by_token(monkeypatch):
    model = new_model(1, 0)
    monkeypatch.setattr("models.decode_at_once", None)
    assert len(model.decode(model.encode(*texts(2)), temperature=1.0, return_ids=True)) == 2


@pytest.mark.slow
def test_all_at_once_with_the_model_in_the_box():
    folder = Path(__file__).parents[1] / "checkpoints" / SHIPPED
    if not (folder / "config.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    model = WheelerTextAutoencoder.load_from_checkpoint(folder)
    grid = model.encode(*texts(24, 256, 8192))
    for kind, some in kinds(grid).items():
        assert differences(model, some) == 0, kind


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_all_at_once_on_a_gpu():
    model = new_model(2, 0.1).cuda()
    for kind, grid in kinds(model.encode(*(x.cuda() for x in texts(56)))).items():
        assert differences(model, grid.cuda()) == 0, kind
