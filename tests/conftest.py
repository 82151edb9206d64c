"""What all tests share."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices this small gain nothing from threads, and wait for them on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_model():
    """An untrained model with the default's frames and grids: it copies texts, and its language model knows nothing."""
    from models import WheelerConfig, WheelerTextAutoencoder
    from sample_corpus import stories
    from tokenizer import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(stories("train", 200), 512)
    config = WheelerConfig(vocab_size=512, max_seq_len=64, patch_size=4, encoder_layers=1, grid_layers=0,
                           decoder_layers=1)
    return WheelerTextAutoencoder(config, tokenizer).eval()
