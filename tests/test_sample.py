"""sample.py from the command line, pictures that are mailed and damaged, and the model that comes with the project."""

import dataclasses
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors import safe_open
from tokenizers import normalizers

import sample
from models import WheelerTextAutoencoder
from wheeler.frame.pictures import picture_of, sheet_of
from wheeler.model.checkpoint import SHIPPED, find_checkpoint
from wheeler.model.config import WheelerConfig
from wheeler.training.flags import read_start
from wheeler_cpu import frame_image

TEXT = "Tom had a red ball."


@pytest.fixture
def run(small_model, tmp_path, monkeypatch, capsys):
    """Runs sample.py in an empty folder with the small model: (exit code, lines of stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    load = WheelerTextAutoencoder.load_from_checkpoint
    monkeypatch.setattr(WheelerTextAutoencoder, "load_from_checkpoint",       # loading takes longer than the rest
                        lambda path: small_model if path == "checkpoints/best.pt" else load(path))

    def call(*words, stdin=None):
        if stdin is not None:
            (tmp_path / "stdin").write_bytes(stdin)
            monkeypatch.setattr("sys.stdin", open(tmp_path / "stdin"))
        try:
            code = sample.main(list(words))
        except SystemExit as stop:
            code = stop.code
        out = capsys.readouterr()
        return code, out.out.splitlines(), out.err

    return call


# ---- one text, many texts -------------------------------------------------------------------------------------------


def test_a_command_imports_and_computes_only_what_it_needs(run, small_model, tmp_path, monkeypatch):
    torch.save(small_model.to_checkpoint(), tmp_path / "best.pt")
    code = """import gc, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    assert stop.code == 0
heavy = {"torch._dynamo", "sympy", "sklearn", "matplotlib", "datasets", "transformers.modeling_utils"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert gc.get_freeze_count() > 100_000"""
    result = subprocess.run([sys.executable, "-c", code, sample.__file__, TEXT, "--checkpoint", "best.pt"], text=True,
                            capture_output=True, env=os.environ | {"PYTHONPATH": str(Path(sample.__file__).parent)})
    assert result.returncode == 0 and result.stderr == "" and TEXT in result.stdout, result.stderr
    calls, name = [], small_model.fingerprint()
    monkeypatch.setattr(WheelerTextAutoencoder, "fingerprint", lambda self: calls.append(self) or name)
    assert run(TEXT)[0] == 0 and len(calls) == 1                              # it hashes all of the weights

def test_a_text_comes_back_and_its_picture_holds_it(run, tmp_path, small_model):
    code, lines, error = run(TEXT, "--noise", "0.9")
    assert code == 0 and error == ""
    assert [line.split()[:2] for line in lines[1:4]] == [[name, "exact"] for name in ("grid", "frame", "attractor")]
    assert all(line.endswith(TEXT) for line in lines[:4]) and "CONVERGED" in lines[4]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["1-frame.png", "1.png"]
    written, picture = small_model.encode_frame(TEXT)[0].numpy() < 0, Image.open("samples/1-frame.png")
    assert picture.size == (656, 656) and picture.info["wheeler"] == small_model.fingerprint()
    assert TEXT.encode() not in (tmp_path / "samples/1-frame.png").read_bytes()
    assert ((np.asarray(picture.convert("L"))[76:584:8, 76:584:8] < 128) == written).all()
    strip = Image.open("samples/1.png")
    assert strip.size == (4 * (3 * 64 + 4), 4 * 64)
    levels = np.asarray(strip.convert("L"))[::4, ::4]
    first, noisy, last = (levels[:, at : at + 64] for at in (0, 66, 132))
    assert ((first < 128) == written).all() and ((last < 128) == written).all() and len(np.unique(noisy)) > 20
    code, lines, error = run("--from", "samples/1-frame.png", "--json")
    row = json.loads(lines[0])
    assert (code, error) == (0, "") and row.pop("bits") == pytest.approx(73, abs=20)
    assert row == {"file": "samples/1-frame.png", "text": TEXT, "exact": True, "gist": False, "meaning_tiles": 31}


def test_json_of_many_texts_and_of_standard_input(run, tmp_path):
    (tmp_path / "a.txt").write_text("One cat.\n\nA dog\nand a fox.\n\n\n")
    (tmp_path / "b.jsonl").write_text('{"text": "Tom ran."}\n')
    code, lines, _ = run("Hi", "-", "--file", "a.txt", "b.jsonl", "--json", "--output_dir", "", stdin=b"From a pipe.\n")
    rows = [json.loads(line) for line in lines]
    assert code == 0
    assert [r["text"] for r in rows] == ["Hi", "From a pipe.", "One cat.", "A dog\nand a fox.", "Tom ran."]
    for row in rows:
        assert row["grid"] == row["frame"] == row["attractor"] == row["text"]
        assert row["grid_exact"] and row["frame_exact"] and row["attractor_exact"] and row["exact"] and row["fits"]
        assert not row["frame_gist"] and not row["attractor_gist"] and row["meaning_tiles"] == 31
        assert 0 < row["bits"] < row["frame_bits"] == pytest.approx(1256, abs=6) and row["pictures"] == []
    assert not (tmp_path / "samples").exists()
    code, lines, error = run("--file", "a.txt", "--max_texts", "1")
    assert code == 0 and "2 texts, the first 1" in error and lines[0].endswith("One cat.") and len(lines) == 6


def test_noise_ticks_and_redundant_change_what_is_read(run):
    rows = {}
    for flags in ((), ("--noise", "1.3"), ("--noise", "1.3", "--redundant"), ("--ticks", "2"),
                  ("--noise", "1.3", "--seed", "1")):
        code, lines, _ = run("Hi Tom", "--json", *flags)
        rows[flags] = json.loads(lines[0])
        assert code == 0
    assert rows[()]["attractor_exact"] and not rows["--noise", "1.3"]["attractor_exact"]
    lost = rows["--noise", "1.3"]
    assert lost["frame_exact"] and not lost["exact"] and lost["attractor_gist"] and lost["attractor"] != "Hi Tom"
    assert rows["--noise", "1.3", "--redundant"]["exact"] and rows["--noise", "1.3", "--redundant"]["frame_bits"] == 472
    assert lost["attractor"] != rows["--noise", "1.3", "--seed", "1"]["attractor"]
    _, lines, _ = run("Hi Tom", "Hi Tom", "--noise", "1.3")
    assert lines[2].split()[:2] == ["frame", "exact"] and lines[3].split()[:2] == ["attractor", "gist"]
    (_, first), (end, second) = ((i, line) for i, line in enumerate(lines) if line.startswith("attractor"))
    assert first != second                                                    # each text has noise of its own
    end += lost["attractor"].count("\n") + 1                                  # a gist may have lines
    assert any(line.endswith("its checksum fails, the words are lost") for line in lines[end:])
    _, lines, _ = run("Hi Tom", "--noise", "10")
    assert "attractor  DIFFERS nothing can be read, neither words nor meaning" in lines
    assert rows["--ticks", "2"]["ticks"] == 2 and rows["--ticks", "2"]["attractor_exact"] and rows[()]["ticks"] > 10


def test_results_do_not_depend_on_the_batch(run, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("One cat.\n\nA dog and a fox.\n\nTom")
    _, together, _ = run("--file", "a.txt", "--json", "--noise", "1.1")
    monkeypatch.setattr(sample, "BATCH", 1)
    assert run("--file", "a.txt", "--json", "--noise", "1.1")[1] == together


def test_what_does_not_fit_says_how_much_it_is_and_shows_its_gist(run, small_model):
    text = "Zoë 日本 "
    while len(small_model.tokenizer(text + "x").input_ids) < 62:
        text += chr(0x100 + 89 * len(text) % 0x700)                           # nothing comes twice
    code, lines, error = run(text, "--redundant")
    assert (code, error) == (0, "") and lines[1].startswith("grid       exact") and len(lines) == 6
    gist = small_model.read_frame(small_model.encode_frame(text))[0]          # a plain frame holds the words
    assert gist.exact and gist.text == text
    with pytest.warns(UserWarning, match="costs .* bits .* holds about 472: the frame holds its gist") as caught:
        gist = small_model.read_frame(small_model.encode_frame(text, redundant=True))[0]
    assert not gist.exact and gist.text != text
    for line, name in zip(lines[2:4], ("frame", "attractor"), strict=True):
        assert line == f"{name:<10} gist    {sample.indented(gist.text)}"
    bits = float(str(caught[0].message).split("costs ")[1].split()[0])
    assert 480 < bits < 800 and lines[4].strip() == (
        f"does not fit: 61 tokens cost {bits:.0f} bits, a frame holds about 472; its gist is in 63 meaning tiles")
    row = json.loads(run(text, "--redundant", "--json")[1][0])
    assert row["grid_exact"] and not row["fits"] and not row["exact"] and row["frame_gist"] and row["attractor_gist"]
    assert not row["frame_exact"] and not row["attractor_exact"] and row["frame"] == row["attractor"] == gist.text
    assert row["bits"] == pytest.approx(bits, abs=0.5) and row["frame_bits"] == 472 and row["meaning_tiles"] == 63
    code, lines, error = run("--from", "samples/1-frame.png")
    assert (code, lines) == (1, [sample.plain(gist.text)])
    assert error == ("sample.py: samples/1-frame.png: a gist, no more: its words are damaged, or did not fit\n")
    row = json.loads(run("--from", "samples/1-frame.png", "--json")[1][0])
    assert not row["exact"] and row["gist"] and row["bits"] == 0 and row["meaning_tiles"] == 63


def test_a_text_that_is_cut_is_not_exact(run):
    code, lines, _ = run("a dog " * 10**5, "--json")
    row = json.loads(lines[0])
    assert code == 0 and row["cut"] and row["tokens"] == 64 and "a dog a dog" in row["grid"]
    assert row["fits"] and row["frame"] == row["attractor"] == row["grid"] and not row["frame_gist"]
    assert not (row["grid_exact"] or row["frame_exact"] or row["attractor_exact"] or row["exact"])
    _, lines, _ = run("a dog " * 10**5)
    assert lines[1].strip() == "too long: cut to 64 tokens, the end token counted" and "DIFFERS" in lines[3]


def test_interpolation_and_arithmetic(run, small_model):
    ends = "Tom ran home.", "The fox was sad."
    code, lines, error = run("--interpolate", *ends, "--steps", "5", "--json")
    rows = [json.loads(line) for line in lines]
    assert (code, error) == (0, "") and [row["share"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    told = [row["text"] for row in rows]
    assert told[0] == ends[0] and told[-1] == ends[1] and told == small_model.interpolate(*ends, 5)
    picture = Image.open("samples/interpolation.png")
    assert picture.size == (4 * (5 * 66 - 2), 256)
    levels = np.asarray(picture.convert("L"))[::4, ::4]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                       # its gists are long nonsense
        frames = small_model.encode_frame(told).numpy()
    for i, frame in enumerate(frames):
        assert ((levels[:, 66 * i : 66 * i + 64] < 128) == (frame < 0)).all()
    code, lines, _ = run("--interpolate", *ends, "--steps", "2")
    assert code == 0 and lines[:2] == [f"0.00  {ends[0]}", f"1.00  {ends[1]}"]
    code, lines, _ = run("The cat ran home.", "--subtract", "The cat", "--add", "The dog")
    assert code == 0 and lines[0] == "The dog ran home."
    levels = np.asarray(Image.open("samples/arithmetic.png").convert("L"))[::4, ::4]
    assert levels.shape == (64, 4 * 66 - 2)
    assert ((levels[:, -64:] < 128) == (small_model.encode_frame("The dog ran home.")[0].numpy() < 0)).all()
    code, lines, _ = run("The cat ran home.", "--add", "Tom", "--subtract", "Tom", "--json")
    assert json.loads(lines[0])["result"] == "The cat ran home."


def test_what_is_not_used_is_not_made(run, tmp_path, monkeypatch):
    monkeypatch.setattr("wheeler.frame.code.FrameCode.__init__", None)              # calling it fails
    code, lines, error = run("The cat ran home.", "--subtract", "The cat", "--add", "The dog", "--output_dir", "")
    assert (code, lines, error) == (0, ["The dog ran home."], "")
    code, lines, error = run("--interpolate", "Tom ran.", "Tom sat.", "--steps", "2", "--output_dir", "")
    assert (code, lines, error) == (0, ["0.00  Tom ran.", "1.00  Tom sat."], "") and not (tmp_path / "samples").exists()
    with pytest.raises(TypeError):
        run("Tom ran.")


def test_a_warning_is_one_line(run):
    code, lines, error = run("--interpolate", "a dog " * 99, "Tom", "--steps", "2", "--output_dir", "")
    assert code == 0 and error == (
        "sample.py: 1 of 2 texts are longer than max_seq_len = 64 tokens (end token counted) and were cut\n")


def test_a_grid_of_sides_that_give_no_frame(run, small_model, tmp_path, monkeypatch):
    config = dataclasses.replace(small_model.config, grid_size=20, max_seq_len=16, patch_size=5)
    torch.save(WheelerTextAutoencoder(config, small_model.tokenizer).to_checkpoint(), "tiny.pt")
    code, lines, error = run("Tom ran.", "--checkpoint", "tiny.pt")
    assert (code, error) == (0, "") and lines[1:] == [
        "grid       exact   Tom ran.", "frame              none: the sides of this model's grid give no frame"]
    row = json.loads(run("Tom ran.", "--checkpoint", "tiny.pt", "--json")[1][0])
    assert row["grid_exact"] and not row["exact"] and "frame" not in row and row["pictures"] == []
    code, lines, _ = run("Tom ran.", "--subtract", "Tom", "--add", "Tom", "--checkpoint", "tiny.pt")
    assert (code, lines) == (0, ["Tom ran."]) and not (tmp_path / "samples").exists()
    code, lines, _ = run("--interpolate", "Tom", "Tim", "--steps", "2", "--checkpoint", "tiny.pt")
    assert (code, lines) == (0, ["0.00  Tom", "1.00  Tim"]) and not (tmp_path / "samples").exists()
    Image.new("L", (20, 20)).save("20.png")
    code, lines, error = run("--from", "20.png", "--checkpoint", "tiny.pt")
    assert (code, lines) == (2, []) and "sides of a frame must be" in error and error.count("\n") == 1
    monkeypatch.setattr(WheelerConfig, "meaning_tiles", 0)
    code, lines, error = run("--interpolate", "Tom", "Tim")
    assert (code, lines) == (2, []) and "frames of this model have none" in error and error.count("\n") == 1


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(run):
    assert run(TEXT)[0] == 0
    return Image.open("samples/1-frame.png")


def painted(picture, value, rows=slice(None), columns=slice(None)):
    """A grey copy with some cells of the frame painted over."""
    pixels = np.asarray(picture.convert("L")).copy()
    frame = pixels[72:-72, 72:-72].reshape(64, 8, 64, 8)
    frame[rows, :, columns] = value
    assert (pixels == value).any()
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name, change", [
    ("grey.png", lambda p: p.convert("L")), ("bits.png", lambda p: p.convert("1", dither=Image.Dither.NONE)),
    ("small.webp", lambda p: p.convert("RGB").resize((400, 400))),
    ("turned.jpg", lambda p: p.convert("RGB").rotate(90)),
    ("alpha.png", lambda p: p.convert("RGBA")), ("frame.gif", lambda p: p),
    ("sixteen.png", lambda p: Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16) * 257)),
])
def test_a_picture_survives_the_mail(run, picture, name, change):
    change(picture).save(name)
    assert run("--from", name) == (0, [TEXT], "")


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("quality", [75, 40])
def test_a_pixel_a_cell_is_enough(run, small_model, mode, quality):
    """As earlier versions wrote them. Half of a JPEG's colours are left out: those of a cell are mixed with those of
    its neighbours."""
    picture = frame_image(small_model.encode_frame(TEXT)[0].numpy(), scale=1)
    picture.convert(mode).save("mail.jpg", quality=quality, **{"subsampling": "4:2:0"} if mode == "RGB" else {})
    assert run("--from", "mail.jpg") == (0, [TEXT], "")


@pytest.mark.parametrize("note", [True, False])
def test_a_damaged_picture_gives_its_gist(run, picture, small_model, note):
    assert small_model.read_frame(small_model.encode_frame(TEXT))[0].meaning_tiles == 31
    info = PngImagePlugin.PngInfo()
    info.add_text("wheeler", picture.info["wheeler"])
    painted(picture, 137, rows=slice(32, 64)).save("damaged.png", pnginfo=info if note else None)        # the words
    code, lines, error = run("--from", "damaged.png", "--json")
    row, frame = json.loads(lines[0]), small_model.encode_frame(TEXT)
    frame[:, 32:] = 0
    gist = small_model.read_frame(frame)[0].text
    assert code == 1 and gist != TEXT
    assert row == {"file": "damaged.png", "text": gist, "exact": False, "gist": True, "meaning_tiles": 31, "bits": 0}
    code, lines, error = run("--from", "damaged.png")
    assert (code, lines) == (1, [sample.plain(gist)])
    assert error == "sample.py: damaged.png: a gist, no more: its words are damaged, or did not fit\n"


def test_pictures_of_an_earlier_run_do_not_stay(run, small_model, tmp_path):
    names = lambda: sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert run("Tom ran.", "Tom sat.", "Tom.")[0] == 0 and run("--interpolate", "Tom", "Tim", "--steps", "2")[0] == 0
    Image.new("L", (9, 9)).save("samples/7.png")                              # somebody's own
    (tmp_path / "samples/8-frame.png").write_text("no picture")
    before = names()
    assert len(before) == 9 and run("a", "--noise", "-1")[0] == 2 and names() == before
    assert run(TEXT)[0] == 0
    assert names() == ["1-frame.png", "1.png", "7.png", "8-frame.png", "interpolation.png"]
    config = dataclasses.replace(small_model.config, grid_size=20, max_seq_len=16, patch_size=5)
    torch.save(WheelerTextAutoencoder(config, small_model.tokenizer).to_checkpoint(), "tiny.pt")
    assert run("Tom ran.", "--checkpoint", "tiny.pt")[0] == 0                 # its sides give no frame
    assert run("--interpolate", "a", "b", "--steps", "2", "--checkpoint", "tiny.pt")[0] == 0
    assert names() == ["7.png", "8-frame.png"]


def test_a_folder_that_cannot_be_written_costs_pictures_and_no_result(run, tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "samples/1-frame.png").mkdir(parents=True)
    for folder, name in (("file", "1.png"), ("file/below", "1.png"), ("samples", "1-frame.png")):
        code, lines, error = run(TEXT, "Tom.", "--output_dir", folder)
        assert code == 2 and lines[0].endswith(TEXT) and "exact" in lines[3] and any("exact   Tom." in x for x in lines)
        assert error.startswith(f"sample.py: --output_dir {folder}: {name} cannot be written (")
        assert error.count("\n") == 1
    code, lines, error = run(TEXT, "--json", "--output_dir", "file")
    row = json.loads(lines[0])
    assert (code, row["pictures"], row["frame"]) == (2, [], TEXT) and error.count("\n") == 1
    for words, name in ((("--interpolate", "Tom", "Tim", "--steps", "2"), "interpolation"),
                        (("Tom ran.", "--add", "a", "--subtract", "a"), "arithmetic")):
        code, lines, error = run(*words, "--output_dir", "file")
        assert code == 2 and lines and f"{name}.png cannot be written" in error and error.count("\n") == 1
    assert (tmp_path / "file").read_text() == "kept"


def test_a_picture_of_which_nothing_is_left(run, picture):
    painted(picture, 137, columns=slice(1, 64)).save("damaged.png")
    code, lines, error = run("--from", "damaged.png", "samples/1-frame.png")
    assert (code, lines) == (1, ["", TEXT]) and error == (
        "sample.py: damaged.png: nothing can be read: neither words nor meaning are left\n")


def test_a_redundant_picture_without_its_top_is_read(run):
    assert run(TEXT, "--redundant")[0] == 0
    painted(Image.open("samples/1-frame.png"), 0, rows=slice(6)).save("painted.png")
    assert run("--from", "painted.png") == (0, [TEXT], "")
    Image.open("painted.png").crop((72, 72, 584, 584)).save("cut.png")        # no marks
    assert run("--from", "cut.png") == (0, [TEXT], "")


def test_pictures_of_something_else_are_refused(run, tmp_path, picture, small_model):
    x, y = np.mgrid[:480, :480]
    photo = np.stack([127 + 120 * np.sin(x / 50), 127 + 120 * np.cos(y / 40), 127 + 120 * np.sin((x + y) / 30)], 2)
    photo = Image.fromarray(photo.astype(np.uint8))
    photo.save("photo.jpg")
    picture_of(np.ones((16, 16))).save("small.png")
    picture_of(np.ones((64, 64))).save("blank.png")
    photo.convert("L").resize((64, 64)).save("grey.png")
    Image.new("L", (64, 64), 255).save("white.png")
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(999))
    (tmp_path / "half.png").write_bytes((tmp_path / "samples/1-frame.png").read_bytes()[:300])
    for name, message in (("photo.jpg", "there is no frame of 64 x 64 cells in it"),
                          ("small.png", "a frame of 16 x 16 cells, wanted is one of 64"), ("blank.png", "is blank"),
                          ("grey.png", "there is no frame of"), ("white.png", "it is of one colour"),
                          ("noise.png", "not a picture"), ("half.png", "not a picture"), ("none.png", "no such file"),
                          (".", "no such file")):
        code, lines, error = run("--from", name)
        assert (code, lines) == (2, []) and error.startswith(f"sample.py: --from {name}: ") and message in error
        assert error.count("\n") == 1


def test_pictures_of_other_weights_are_refused_by_their_note_and_by_their_header(run, picture, small_model):
    other = WheelerTextAutoencoder.from_checkpoint(small_model.to_checkpoint())
    other.decoder.norm_out.weight.data += 0.01
    torch.save(other.to_checkpoint(), "other.pt")
    picture.convert("RGB").save("plain.png")
    info = PngImagePlugin.PngInfo()
    info.add_text("wheeler", "code 0123456789abcdef")                         # as earlier versions noted it
    picture.save("old.png", pnginfo=info)
    for words, parts in ((("samples/1-frame.png", "--checkpoint", "other.pt"),
                          (f"written with the weights {small_model.fingerprint()}", other.fingerprint())),
                         (("plain.png", "--checkpoint", "other.pt"), ("its header names other", other.fingerprint())),
                         (("old.png",), ("written with the weights 0123456789abcdef", small_model.fingerprint()))):
        code, lines, error = run("--from", *words)
        assert (code, lines) == (2, []) and error.startswith(f"sample.py: --from {words[0]}: ")
        assert error.count("\n") == 1 and all(part in error for part in parts)


@pytest.mark.parametrize("words, message", [
    ((), "give texts, or --from"), (("a", "--from", "b.png"), "one of these"), (("a", "b", "--add", "c"), "one text"),
    (("a", "--noise", "nan"), "--noise nan"), (("a", "--noise", "-1"), "--noise -1"),
    (("a", "--ticks", "0"), "--ticks 0"),
    (("--interpolate", "a", "b", "--steps", "1"), "--steps 1"), (("--interpolate", "a"), "expected 2"),
    (("--file", "no.txt"), "--file no.txt: no such file"), (("--file", "bad.txt"), "--file bad.txt: cannot be read"),
    (("--file", "bad.bin"), "must be a .txt or .jsonl"), (("--file", "bad.jsonl"), "line 1 is not"),
    (("a", "--checkpoint", "bad.txt"), "not a readable"), (("a", "--checkpoint", "."), "no config.json"),
    (("half \ud800",), "not valid Unicode"), (("a", "--bo"), "--bo"),
])
def test_bad_input_is_one_line(run, tmp_path, words, message):
    for name in ("bad.txt", "bad.bin", "bad.jsonl"):
        (tmp_path / name).write_bytes(b"\xff\xfe{")
    (tmp_path / "bad.jsonl").write_text('{"txt": 1}\n')
    code, lines, error = run(*words)
    assert (code, lines) == (2, []) and message in error and error.count("\n") == 1


def test_standard_input_of_many_texts(run):
    code, lines, _ = run("-", "--json", stdin=b"Tom ran.\r\n\r\nLily sat.\r\n")
    assert code == 0 and [json.loads(line)["text"] for line in lines] == ["Tom ran.", "Lily sat."]
    code, lines, error = run("-", "--add", "x", stdin=b"Tom ran.\n\nLily sat.\n")
    assert (code, lines) == (2, []) and "one text, the input holds 2" in error


def test_exact_means_that_the_checksum_agrees(run, monkeypatch):
    monkeypatch.setattr(sample.FrameCode, "read", lambda self, frames, read=sample.FrameCode.read: [
        dataclasses.replace(reading, exact=False) for reading in read(self, frames)])
    row = json.loads(run(TEXT, "--json")[1][0])
    assert row["frame"] == row["attractor"] == TEXT and row["grid_exact"]
    assert not (row["frame_exact"] or row["attractor_exact"] or row["exact"])


def test_exact_means_the_same_characters(run, small_model, monkeypatch):
    """A tokenizer that changes texts: the same ids come back, the checksum agrees, and yet it is another text."""
    changed = WheelerTextAutoencoder.from_checkpoint(small_model.to_checkpoint())
    changed.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    torch.save(changed.to_checkpoint(), "lower.pt")
    for text, same in ((TEXT, False), (TEXT.lower(), True)):
        row = json.loads(run(text, "--json", "--checkpoint", "lower.pt")[1][0])
        assert row["grid"] == row["frame"] == row["attractor"] == TEXT.lower()
        assert {row[name] for name in ("grid_exact", "frame_exact", "attractor_exact", "exact")} == {same}
        assert not row["frame_gist"] and not row["attractor_gist"]
    lines = run(TEXT, "--checkpoint", "lower.pt")[1]
    assert [line.split()[1] for line in lines[1:4]] == ["DIFFERS"] * 3


def test_a_text_that_spells_a_special_token_comes_back(run):
    row = json.loads(run("Tom <|eos|> ran", "--json")[1][0])
    assert row["exact"] and row["attractor"] == row["grid"] == "Tom <|eos|> ran"


def test_standard_input_of_nonsense(run):
    assert run("-", stdin=b"\xff\xfe")[0] == run("-", stdin=b" \n\n ")[0] == 2


# ---- the model that comes with the project --------------------------------------------------------------------------


def test_half_precision_in_shards_loads_as_float32(small_model, tmp_path, monkeypatch):
    monkeypatch.setattr("models.SHARD_SIZE", "2MB")
    half = WheelerTextAutoencoder.from_checkpoint(small_model.to_checkpoint()).half()
    half.save_pretrained(tmp_path / "packed")
    shards = list((tmp_path / "packed").glob("*.safetensors"))
    assert len(shards) > 3 and (tmp_path / "packed/model.safetensors.index.json").is_file()
    for path in shards:                                                       # larger only where one tensor alone is
        with safe_open(path, "pt") as file:
            assert path.stat().st_size < 2.1e6 or len(file.keys()) == 1, path
    loaded = WheelerTextAutoencoder.load_from_checkpoint(tmp_path / "packed")
    assert not loaded.training and loaded.config == small_model.config
    for name, weight in loaded.state_dict().items():
        assert weight.dtype == torch.float32, name
        assert torch.equal(weight, small_model.state_dict()[name].half().float()), name
    assert loaded.fingerprint() == half.fingerprint() != small_model.fingerprint()
    assert loaded.decode_frame(loaded.encode_frame(TEXT)) == loaded.decode(loaded.encode(TEXT)) == TEXT
    shards[0].unlink()
    with pytest.raises(ValueError, match="packed is not a readable model"):
        WheelerTextAutoencoder.load_from_checkpoint(tmp_path / "packed")


def test_own_training_comes_first_and_the_shipped_model_stands_in(small_model, tmp_path, capsys):
    load, best = WheelerTextAutoencoder.load_from_checkpoint, tmp_path / "best.pt"
    with pytest.raises(FileNotFoundError, match="train one first"):
        load(best)
    small_model.save_pretrained(tmp_path / SHIPPED)
    assert load(best).fingerprint() == small_model.fingerprint() and find_checkpoint(best) == tmp_path / SHIPPED
    error = capsys.readouterr().err
    assert error == f"no {best} yet: using {tmp_path / SHIPPED}, the model that comes with the project\n"
    with pytest.raises(FileNotFoundError, match="last.pt"):
        load(tmp_path / "last.pt")                                            # only best.pt has a stand-in
    own = WheelerTextAutoencoder(small_model.config, small_model.tokenizer)
    torch.save(own.to_checkpoint(), best)
    assert load(best).fingerprint() == own.fingerprint() != small_model.fingerprint()
    assert capsys.readouterr().err == ""


def test_a_command_finds_its_model_from_any_folder(small_model, tmp_path, monkeypatch, capsys):
    home, load = tmp_path / "project/checkpoints", WheelerTextAutoencoder.load_from_checkpoint
    small_model.save_pretrained(home / SHIPPED)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("wheeler.model.checkpoint.HOME", home)
    for path in ("checkpoints/best.pt", f"checkpoints/{SHIPPED}", SHIPPED):
        assert find_checkpoint(path) == home / SHIPPED and load(path).fingerprint() == small_model.fingerprint()
        assert read_start(path).keys() == small_model.to_checkpoint().keys()  # --init_from
    error = capsys.readouterr().err
    assert error == f"no checkpoints/best.pt yet: using {home / SHIPPED}, the model that comes with the project\n"
    for path in ("best.pt", "runs/a/best.pt", "checkpoints/last.pt", "other"):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):      # never another one than was asked for
            load(path)
    torch.save(small_model.to_checkpoint(), home / "best.pt")
    assert find_checkpoint("checkpoints/best.pt") == home / "best.pt" and load("checkpoints/best.pt")
    assert capsys.readouterr().err == f"no checkpoints/best.pt here: using {home / 'best.pt'}\n"
    (tmp_path / "elsewhere/checkpoints").mkdir()
    torch.save(small_model.to_checkpoint(), "checkpoints/best.pt")
    assert find_checkpoint("checkpoints/best.pt") == Path("checkpoints/best.pt")


@pytest.mark.slow
def test_every_command_works_in_another_folder(tmp_path):
    root = Path(sample.__file__).parent
    if not (root / "checkpoints" / SHIPPED / "config.json").is_file() or (root / "checkpoints/best.pt").exists():
        pytest.skip("this checkout has no shipped model, or one of its own")
    for words, said in ((["sample.py", "Hi"], "attractor  exact   Hi"),
                        (["evaluate.py", "text", "--dataset", "sample", "--texts", "random", "--paths", "grid",
                          "--num_samples", "2"], f"{SHIPPED}, weights"),
                        (["bench.py", "frames", "--dataset", "sample", "--batch_sizes", "1", "--repeats", "1"], "fit"),
                        (["train.py", "--init_from", SHIPPED, "--dataset", "sample", "--max_steps", "1",
                          "--batch_size", "2", "--eval_samples", "2", "--output_dir", "tuned", "--device", "cpu"],
                         "saved       tuned/last.pt")):
        done = subprocess.run([sys.executable, str(root / words[0]), *words[1:]], cwd=tmp_path, capture_output=True,
                              text=True, timeout=600)
        assert done.returncode == 0 and said in done.stdout, done.stderr


def test_the_shipped_model_keeps_to_its_sizes():
    folder = sample.Path(__file__).parents[1] / "checkpoints" / SHIPPED
    if not (folder / "config.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    assert WheelerTextAutoencoder.load_from_checkpoint(folder).config.grid_size == 64
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert max(sizes) < 16 << 20 and sum(sizes) < 50 << 20
    assert "CDLA-Sharing-1.0" in (folder / "README.md").read_text(encoding="utf-8")


# ---- films ----------------------------------------------------------------------------------------------------------


LONG = "Tom had a red ball.\r\n\r\nLily ran home. \U0001f409 " * 12


def test_a_file_becomes_a_film_that_its_pictures_give_back(run, tmp_path):
    (tmp_path / "book.txt").write_bytes(LONG.encode())
    code, lines, error = run("book.txt", "--noise", "0.9", "--json")
    row = json.loads(lines[0])
    assert (code, error, row["characters"]) == (0, "", len(LONG)) and row["frames"] > 2
    assert row["film_exact"] and row["attractor_exact"] and row["pictures_exact"]
    film, *sheets = row["pictures"]
    with Image.open(film) as image:
        assert image.n_frames == row["frames"] and image.info["wheeler"]
    for paths in ([film], sheets[::-1]):
        code, lines, error = run("--from", *paths, "--json")
        found, = map(json.loads, lines)
        assert (code, error, found["text"], found["exact"], found["missing"]) == (0, "", LONG, True, [])
    code, lines, _ = run("book.txt")
    assert code == 0 and [line.split()[:2] for line in lines] == [
        ["text", "book.txt,"], ["film", "exact"], ["attractor", "exact"], ["pictures", "exact"]]
    assert f" {row['frames']} frames, " in lines[1] and " characters each, written in " in lines[1]
    (tmp_path / "a.txt").write_text("a")
    code, lines, _ = run("a.txt")
    assert code == 0 and lines[0].endswith("a.txt, 1 character") and "1 frame, 1 character, written in " in lines[1]


def test_single_pictures_a_gif_and_gaps(run, small_model, tmp_path):
    frames = small_model.encode_frames(LONG).numpy()
    for k, frame in enumerate(frames):
        picture_of(frame).save(f"{k}.png")
    names = [f"{k}.png" for k in range(len(frames))]
    code, lines, error = run("--from", *names[::-1], "--json")
    assert (code, error, json.loads(lines[0])["text"]) == (0, "", LONG) and len(lines) == 1
    first, *more = map(picture_of, frames)
    title = Image.new("RGB", first.size, "white")
    title.save("film.gif", save_all=True, append_images=[first.convert("RGB"), *(p.convert("RGB") for p in more)])
    assert json.loads(run("--from", "film.gif", "--json")[1][0])["text"] == LONG
    code, lines, error = run("--from", names[0], *names[2:], "--json")
    found = json.loads(lines[0])
    assert code == 1 and found["missing"] == [[2, 2]] and not found["exact"]
    assert error == f"sample.py: of {len(frames)} frames these are missing or damaged: 2\n"
    assert f" [frame 2 of {len(frames)} is missing] " in found["text"]


def test_pictures_that_cannot_be_read_do_not_keep_others_from_it(run, small_model, tmp_path):
    first, *more = map(picture_of, small_model.encode_frames(LONG).numpy())
    first.save("film.png", save_all=True, append_images=more)
    data = Path("film.png").read_bytes()
    Path("cut.png").write_bytes(data[: len(data) * 2 // 3])
    Path("bad.png").write_bytes(b"no picture")
    code, lines, error = run("--from", "cut.png", "--json")                   # the frames before the cut
    film = json.loads(lines[0])
    assert code == 1 and film["missing"] == [[film["missing"][0][0], len(more) + 1]] and film["missing"][0][0] > 1
    first.save("first.png")
    code, lines, error = run("--from", "bad.png", "first.png", "none.png", "--json")
    assert code == 1 and [json.loads(line).get("file") for line in lines] == ["bad.png", "none.png", None]
    assert json.loads(lines[-1])["missing"] == [[2, len(more) + 1]]
    assert [line.split(":")[1] for line in error.splitlines()[:2]] == [" --from bad.png", " --from none.png"]
    Path("cut.png").write_bytes(data[:3000])
    for names in (["bad.png"], ["none.png", "bad.png"], ["bad.png", "bad.png"], ["cut.png"]):
        code, lines, error = run("--from", *names)
        assert (code, lines, error.count("\n")) == (2, [], 1) and error.startswith(f"sample.py: --from {names[0]}: ")


def test_a_film_has_plain_frames_alone(run, tmp_path):
    (tmp_path / "book.txt").write_text("Tom ran.")
    for flag in ("--redundant", "--erasures"):
        code, lines, error = run("book.txt", flag)
        assert (code, lines) == (2, []) and "book.txt: a file becomes a film, whose frames are plain" in error
    code, lines, error = run("Tom ran.", "--redundant", "--erasures")
    assert code == 2 and "not allowed with argument --redundant" in error


def test_a_sheet_of_ordinary_frames_gives_all_their_texts(run, small_model):
    sheet_of(small_model.encode_frame(["Tom ran.", "Tom sat."]).numpy()).save("two.png")
    assert run("--from", "two.png") == (0, ["Tom ran.", "Tom sat."], "")


def test_files_that_give_no_film(run, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "empty.txt").write_bytes(b"")
    for name, said in (("bad.txt", "is not UTF-8 text"), ("empty.txt", "empty.txt is empty")):
        code, lines, error = run(name)
        assert (code, lines) == (2, []) and said in error and error.count("\n") == 1
    code, lines, error = run("nothing.txt")
    assert code == 0 and error == "sample.py: nothing.txt: no such file, so it is taken as a text\n"
    Image.new("L", (82, 82)).save("a.gif", save_all=True, append_images=[Image.new("L", (82, 82), 9)])
    code, lines, error = run("--from", "a.gif")
    assert (code, lines) == (2, []) and "there is no frame of 64 x 64 cells in it" in error
