"""runs/: the script trains, evaluates and packs a model, at small size."""

import os
import subprocess
from pathlib import Path

import pytest

from models import WheelerTextAutoencoder

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_script_trains_evaluates_and_packs(tmp_path):
    small = "--grid_size 32 --d_model 64 --encoder_layers 1 --decoder_layers 1 --vocab_size 600"
    flags = {"DATA": "sample", "OUT": str(tmp_path / "out"), "MAX_STEPS": "3", "SIZE": small, "FLAGS": "",
             "SAMPLES": "4"}
    result = subprocess.run(["bash", ROOT / "runs" / "wheeler_21m.sh"], text=True, capture_output=True,
                            env=os.environ | flags)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "packed into" in result.stdout
    model = WheelerTextAutoencoder.load_from_checkpoint(tmp_path / "out" / "packed")
    assert model.config.grid_size == 32 and model.decode(model.encode("Tom ran home.")) == "Tom ran home."


def test_the_script_is_valid_shell():
    assert subprocess.run(["bash", "-n", ROOT / "runs" / "wheeler_21m.sh"]).returncode == 0
