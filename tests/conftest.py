"""What all tests share."""

import json
import shutil
import socket
import time

import numpy as np
import pytest
import torch

TINY = """--grid_size 16 --d_model 64 --max_seq_len 16 --encoder_layers 1 --grid_layers 0 --decoder_layers 1
--vocab_size 512 --batch_size 8 --max_steps 4 --eval_samples 4 --show_samples 1 --log_every 1 --eval_every -1
--save_every -1 --warmup_steps 100 --device cpu""".split()
# 49 texts to train on: 6 steps an epoch with --batch_size 8


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    from wheeler.training.stories import stories

    folder = tmp_path_factory.mktemp("shared")
    rows = [" ".join(story.split()[: 2 + i % 12]) for i, story in enumerate(stories("train", 52))]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows[10:]))
    return folder


@pytest.fixture
def run(shared, tmp_path, monkeypatch):
    """run("--flag value ...", name) -> exit code; the run goes to tmp_path / name."""
    monkeypatch.chdir(tmp_path)

    import train

    def run(flags="", out="run", tiny=True):
        given = [*(TINY if tiny else []), "--dataset", str(shared / "a.jsonl"), "--cache_dir", str(shared / "cache")]
        return train.main([*given, "--output_dir", out, *flags.split()])

    return run


def free_port() -> int:
    """A port of this machine at which nothing answers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices this small gain nothing from threads, and wait for them on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save_tiny_model(path, grid_size, max_seq_len):
    """Write the checkpoint of an untrained model with the fewest layers, in the tokens of the embedded stories."""
    from models import WheelerTextAutoencoder
    from wheeler.model.config import WheelerConfig
    from wheeler.model.tokenizer import train_tokenizer
    from wheeler.training.stories import stories

    torch.manual_seed(0)
    tokenizer = train_tokenizer(stories("train")[:200], 512)
    config = WheelerConfig(vocab_size=len(tokenizer), grid_size=grid_size, d_model=64, max_seq_len=max_seq_len,
                           encoder_layers=1, grid_layers=0, decoder_layers=1)
    torch.save(WheelerTextAutoencoder(config, tokenizer).to_checkpoint(), path)


@pytest.fixture(scope="session")
def small_model():
    """An untrained model with the default's frames and grids: it copies texts, and its language model knows nothing."""
    from models import WheelerTextAutoencoder
    from wheeler.model.config import WheelerConfig
    from wheeler.model.tokenizer import train_tokenizer
    from wheeler.training.stories import stories

    torch.manual_seed(0)
    tokenizer = train_tokenizer(stories("train", 200), 512)
    config = WheelerConfig(vocab_size=512, max_seq_len=64, patch_size=4, encoder_layers=1, grid_layers=0,
                           decoder_layers=1)
    return WheelerTextAutoencoder(config, tokenizer).eval()


def chromium():
    """Chromium without a screen, 1440 x 1160; skips where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs Chromium and its chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-component-update",
                 "disable-background-networking", "disable-sync", "window-size=1440,1160"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def wait_until(condition, failure, seconds=60):
    """Waits for what a page is about to show. condition() may raise while elements are not there yet; failure(): what
    the AssertionError says in the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except Exception:                                                     # the element is not there yet
            pass
        time.sleep(0.1)
    raise AssertionError(failure())


def decoder_bits(decoder, ids, tiles=()):
    """Bits of token ids, given numbers of meaning tiles, by the decoder in whole numbers alone, without its cache."""
    state = decoder.texts(*decoder.estimates([np.array(tiles, np.int64)]), len(ids))
    inputs = np.array([decoder.config.bos_token_id, *ids[:-1]])
    *_, frequencies, totals = decoder._rows(state, np.arange(1), inputs, np.array([0, len(ids)]))
    return float(np.log2(totals / frequencies[range(len(ids)), ids]).sum())


@pytest.fixture(scope="module")
def browser():
    driver = chromium()
    yield driver
    driver.quit()
