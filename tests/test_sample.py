"""sample.py from the command line, pictures that are mailed and damaged, and the model that comes with the project."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import sample
from checkpoint import SHIPPED, find_checkpoint
from models import WheelerTextAutoencoder

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


def test_a_text_comes_back_and_its_pictures_hold_it(run, tmp_path, small_model):
    code, lines, error = run(TEXT, "--noise", "0.9")
    assert code == 0 and error == ""
    assert [line.split()[:2] for line in lines[1:4]] == [[name, "exact"] for name in ("grid", "frame", "attractor")]
    assert all(line.endswith(TEXT) for line in lines[:4]) and "CONVERGED" in lines[4]
    assert Image.open("samples/1.png").size == (4 * (4 * 64 + 6), 4 * 64)
    for name, kind in (("samples/1-frame.png", "code"), ("samples/1-learned.png", "learned")):
        assert Image.open(name).size == (64, 64) and TEXT.encode() not in (tmp_path / name).read_bytes()
        code, lines, error = run("--from", name, "--json")
        assert code == 0 and json.loads(lines[0]) == {"file": name, "kind": kind, "text": TEXT, "intact": True}
    frame = np.asarray(Image.open("samples/1-frame.png").convert("L"))
    assert ((frame < 128) == (small_model.encode_frame(TEXT)[0].numpy() < 0)).all()


def test_json_of_many_texts_and_of_standard_input(run, tmp_path):
    (tmp_path / "a.txt").write_text("One cat.\n\nA dog\nand a fox.\n\n\n")
    (tmp_path / "b.jsonl").write_text('{"text": "Tom ran."}\n')
    code, lines, _ = run("Hi", "-", "--file", "a.txt", "b.jsonl", "--json", "--output_dir", "", stdin=b"From a pipe.\n")
    rows = [json.loads(line) for line in lines]
    assert code == 0
    assert [r["text"] for r in rows] == ["Hi", "From a pipe.", "One cat.", "A dog\nand a fox.", "Tom ran."]
    for row in rows:
        assert row["grid"] == row["frame"] == row["attractor"] == row["text"]
        assert row["grid_exact"] and row["frame_exact"] and row["attractor_exact"] and row["intact"] and row["fits"]
        assert 0 < row["bits"] < row["frame_bits"] == pytest.approx(1260, abs=2) and row["pictures"] == []
    assert not (tmp_path / "samples").exists()
    code, lines, error = run("--file", "a.txt", "--max_texts", "1")
    assert code == 0 and "2 texts, the first 1" in error and lines[0].endswith("One cat.") and len(lines) == 6


def test_noise_ticks_and_redundant_change_what_is_read(run):
    rows = {}
    for flags in ((), ("--noise", "1.3"), ("--noise", "1.3", "--redundant"), ("--ticks", "2"), ("--seed", "1")):
        code, lines, _ = run("Hi Tom", "--json", *flags)
        rows[flags] = json.loads(lines[0])
        assert code == 0
    assert rows[()]["attractor_exact"] and not rows["--noise", "1.3"]["attractor_exact"]
    assert not rows["--noise", "1.3"]["intact"] and rows["--noise", "1.3", "--redundant"]["attractor_exact"]
    assert rows["--noise", "1.3", "--redundant"]["frame_bits"] == 472
    assert rows["--ticks", "2"]["ticks"] == 2 and rows["--ticks", "2"]["attractor_exact"] and rows[()]["ticks"] > 10


def test_results_do_not_depend_on_the_batch(run, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("One cat.\n\nA dog and a fox.\n\nTom")
    _, together, _ = run("--file", "a.txt", "--json", "--noise", "1.1")
    monkeypatch.setattr(sample, "BATCH", 1)
    assert run("--file", "a.txt", "--json", "--noise", "1.1")[1] == together


def test_what_does_not_fit_says_how_much_it_is_and_still_reads_the_grid(run, small_model):
    text = "Zoë 日本 "
    while len(small_model.tokenizer(text + "x").input_ids) < 62:
        text += chr(ord("a") + len(text) % 26)
    code, lines, _ = run(text, "--redundant")
    assert code == 0 and lines[1].startswith("grid       exact")
    assert lines[3].startswith("attractor          does not fit: 6") and "a frame holds about 472" in lines[3]
    bits = float(lines[3].split("cost ")[1].split()[0])
    with pytest.raises(ValueError, match=f"costs {bits:.0f} bits"):
        small_model.encode_frame(text, redundant=True)
    assert not run(text, "--redundant")[1][-1].endswith("frame.png")
    code, lines, _ = run("a dog " * 10**5, "--json")
    row = json.loads(lines[0])
    assert code == 0 and row["cut"] and row["tokens"] == 64 and row["grid_exact"] and "a dog a dog" in row["grid"]


def test_interpolation_and_arithmetic(run):
    code, lines, _ = run("--interpolate", "Tom ran home.", "The fox was sad.", "--steps", "5", "--json")
    rows = [json.loads(line) for line in lines]
    assert code == 0 and [row["share"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    assert rows[0]["text"] == "Tom ran home." and rows[-1]["text"] == "The fox was sad."
    assert Image.open("samples/interpolation.png").size == (4 * (5 * 66 - 2), 256)
    code, lines, _ = run("The cat ran home.", "--subtract", "The cat", "--add", "The dog")
    assert code == 0 and lines[0] == "The dog ran home."
    code, lines, _ = run("The cat ran home.", "--add", "Tom", "--subtract", "Tom", "--json")
    assert json.loads(lines[0])["result"] == "The cat ran home."


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(run):
    assert run(TEXT)[0] == 0
    return Image.open("samples/1-frame.png")


@pytest.mark.parametrize("name, change", [
    ("grey.png", lambda p: p.convert("L")), ("bits.png", lambda p: p.convert("1", dither=Image.Dither.NONE)),
    ("large.png", lambda p: p.convert("RGB").resize((320, 320), Image.Resampling.NEAREST)),
    ("large.jpg", lambda p: p.convert("RGB").resize((512, 512), Image.Resampling.NEAREST)),
    ("alpha.png", lambda p: p.convert("RGBA")), ("frame.gif", lambda p: p),
    ("sixteen.png", lambda p: Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16) * 257)),
])
def test_a_picture_survives_the_mail(run, picture, name, change):
    change(picture).save(name)
    assert run("--from", name) == (0, [TEXT], "")


def test_a_learned_frame_without_its_note_is_read_too(run, picture):
    Image.open("samples/1-learned.png").convert("RGB").save("plain.png")
    code, lines, _ = run("--from", "plain.png", "--json")
    assert code == 0 and json.loads(lines[0]) == {"file": "plain.png", "kind": "learned", "text": TEXT, "intact": True}


def test_a_damaged_picture_is_read_as_far_as_it_goes(run, picture):
    pixels = np.asarray(picture.convert("L")).copy()
    pixels[1:12, 1:] = 128
    Image.fromarray(pixels).save("damaged.png")
    code, lines, error = run("--from", "damaged.png")
    assert code == 1 and len(lines) == 1 and lines[0] != TEXT
    assert error == "sample.py: damaged.png is damaged, its checksum fails: do not trust the text\n"


def test_a_redundant_picture_without_its_top_is_read(run):
    assert run(TEXT, "--redundant")[0] == 0
    pixels = np.asarray(Image.open("samples/1-frame.png").convert("L")).copy()
    pixels[:6] = 0
    Image.fromarray(pixels).save("painted.png")
    assert run("--from", "painted.png") == (0, [TEXT], "")


def test_pictures_of_something_else_are_refused(run, tmp_path, picture, small_model):
    x, y = np.mgrid[:480, :480]
    photo = np.stack([127 + 120 * np.sin(x / 50), 127 + 120 * np.cos(y / 40), 127 + 120 * np.sin((x + y) / 30)], 2)
    photo = Image.fromarray(photo.astype(np.uint8))
    photo.save("photo.jpg")
    photo.crop((0, 0, 448, 448)).save("square.png")
    photo.convert("L").resize((64, 64)).save("grey.png")
    Image.new("L", (64, 64), 255).save("white.png")
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(999))
    (tmp_path / "half.png").write_bytes((tmp_path / "samples/1-frame.png").read_bytes()[:300])
    for name, message in (("photo.jpg", "it has 480 x 480 pixels"), ("square.png", "colours are not those of a frame"),
                          ("grey.png", "there is no frame in it"), ("white.png", "there is no frame in it"),
                          ("noise.png", "not a picture"), ("half.png", "not a picture"), ("none.png", "no such file"),
                          (".", "no such file")):
        code, lines, error = run("--from", name)
        assert (code, lines) == (2, []) and error.startswith(f"sample.py: --from {name}: ") and message in error
        assert error.count("\n") == 1
    other = WheelerTextAutoencoder(small_model.config, small_model.tokenizer)
    torch.save(other.to_checkpoint(), "other.pt")
    code, _, error = run("--from", "samples/1-frame.png", "--checkpoint", "other.pt")
    assert code == 2 and small_model.fingerprint() in error and other.fingerprint() in error


@pytest.mark.parametrize("words, message", [
    ((), "give texts, or --from"), (("a", "--from", "b.png"), "one of these"), (("a", "b", "--add", "c"), "one text"),
    (("a", "--noise", "nan"), "--noise nan"), (("a", "--noise", "-1"), "--noise -1"),
    (("a", "--ticks", "0"), "--ticks 0"),
    (("--interpolate", "a", "b", "--steps", "1"), "--steps 1"), (("--interpolate", "a"), "expected 2"),
    (("--file", "no.txt"), "--file no.txt: no such file"), (("--file", "bad.txt"), "--file bad.txt: cannot be read"),
    (("--file", "bad.bin"), "must be a .txt or .jsonl"), (("--file", "bad.jsonl"), "line 1 is not"),
    (("a", "--output_dir", "bad.txt"), "--output_dir bad.txt"), (("a", "--checkpoint", "bad.txt"), "not a readable"),
    (("a", "--checkpoint", "."), "no config.json"), (("half \ud800",), "not valid Unicode"), (("a", "--bo"), "--bo"),
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
        (ids, False) for ids, _ in read(self, frames)])
    row = json.loads(run(TEXT, "--json")[1][0])
    assert row["attractor"] == TEXT and not row["attractor_exact"] and row["frame_exact"]


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


def test_the_shipped_model_keeps_to_its_sizes():
    folder = sample.Path(__file__).parents[1] / "checkpoints" / SHIPPED
    if not (folder / "config.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    assert WheelerTextAutoencoder.load_from_checkpoint(folder).config.grid_size == 64
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert max(sizes) < 16 << 20 and sum(sizes) < 45 << 20
    assert "CDLA-Sharing-1.0" in (folder / "README.md").read_text(encoding="utf-8")
