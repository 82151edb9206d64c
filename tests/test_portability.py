"""Frames that one setting writes are read with every other: threads, batches, instruction sets, precision on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import WheelerTextAutoencoder
from wheeler.frame.code import FrameCode
from wheeler.frame.integer_decoder import int8_is_exact
from wheeler.training.stories import stories
from wheeler.training.unusual import unusual_words

ROOT = Path(__file__).resolve().parents[1]
# What each setting does: reads `frames` in batches of `batch`, and writes the first `wrote` texts itself.
CODE = """
import json, sys
import numpy as np, torch
from models import WheelerTextAutoencoder
from wheeler.frame.code import FrameCode
from wheeler.frame.integer_decoder import int8_is_exact
checkpoint, texts, frames, out, batch, compiled = sys.argv[1:]
model = WheelerTextAutoencoder.load_from_checkpoint(checkpoint)
if compiled == "1":
    model.compile()
code, ids = FrameCode(model), json.load(open(texts))
frames, batch = np.load(frames), int(batch)
read = [code.read(frames[i : i + batch]) for i in range(0, len(frames), batch)]
wrong = [i for i, reading in enumerate(sum(read, [])) if not reading.exact or reading.ids != ids[i]]
np.save(out, np.stack([one.frame for one in code.write(ids[:20])]))
print(json.dumps({"wrong": wrong, "int8": int8_is_exact(), "capability": torch.backends.cpu.get_cpu_capability()}))
"""
SETTINGS = {
    "one thread": ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}, 64),
    "four threads": ({"OMP_NUM_THREADS": "4"}, 64),
    "one by one": ({}, 1),
    "batches of 16": ({}, 16),
    "torch without vectors": ({"ATEN_CPU_CAPABILITY": "default"}, 64),
    "torch with AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, 64),
    "torch with AVX-512": ({"ATEN_CPU_CAPABILITY": "avx512"}, 64),
    "no int8 instructions": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, 64),
    "another processor": ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}, 64),
    "all of an old machine": ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "1",
                               "NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": ""}, 16),
    "compiled": ({}, 64),
    "saved again in float16": ({}, 64),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """200 texts that fit: stories cut at several lengths, and made-up ones. (model, ids, folder with files of both)"""
    folder = tmp_path_factory.mktemp("frames")
    model = WheelerTextAutoencoder.load_from_checkpoint(ROOT / "checkpoints" / "wheeler-21m")
    code, rng = FrameCode(model), np.random.default_rng(0)
    texts = [text[: rng.integers(20, 900)] for text in stories("validation", 160)]
    texts += [" ".join(unusual_words(rng)[:8]) for _ in range(60)]
    ids = [row[:255] for row in model.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    out = [one for one in code.write([[*row, model.config.eos_token_id] for row in ids]) if one.fits][:200]
    assert len(out) == 200
    (folder / "texts.json").write_text(json.dumps([one.ids for one in out]))
    np.save(folder / "frames.npy", np.stack([one.frame for one in out]))
    model.half().save_pretrained(folder / "again")
    return code, [one.ids for one in out], folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_frames_cross(written, name):
    code, ids, folder = written
    changes, batch = SETTINGS[name]
    checkpoint = folder / "again" if name == "saved again in float16" else ROOT / "checkpoints" / "wheeler-21m"
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(checkpoint), str(folder / "texts.json"), str(folder / "frames.npy"),
         str(folder / "back.npy"), str(batch), str(int(name == "compiled"))],
        cwd=ROOT, env={**os.environ, **changes}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    # A processor that multiplies int8 right is told apart from one that does not, whose products are float32.
    assert found["int8"] == (int8_is_exact() and "ONEDNN_MAX_CPU_ISA" not in changes)
    back = code.read(np.load(folder / "back.npy"))                            # and what it wrote, here
    assert [(reading.exact, reading.ids) for reading in back] == [(True, row) for row in ids[:20]]
