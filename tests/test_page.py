"""page/: its scripts in Node give the bits of the Python code, and the page works in a real browser. Tests are skipped
where Node, or Chromium with its chromedriver, is missing."""

import base64
import copy
import dataclasses
import gzip
import io
import json
import random
import re
import shutil
import subprocess
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wheeler.dynamics.tiles import tile_words
from wheeler.frame.code import FrameCode
from wheeler.frame.contents import Part
from wheeler.frame.pictures import picture_of
from wheeler.model.inputs import encode_text
from wheeler.page import EXAMPLES, PAGE, build_page, server, stories_of
from wheeler_cpu import WheelerMemoryCPU, add_noise, frame_image

NODE = shutil.which("node")
SCRIPT = Path(__file__).with_name("page_in_node.js")
needs_node = pytest.mark.skipif(not NODE, reason="needs Node (Debian: apt-get install nodejs)")


def sent(frame: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(frame, "<f4").tobytes()).decode()


def received(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(64, 64)


def node(folder: Path, calls: list[dict]) -> list:
    """Results of calls of page_in_node.js, one after the other."""
    done = subprocess.run([NODE, str(SCRIPT), str(folder)], input=json.dumps(calls), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def code(small_model):
    return FrameCode(small_model)


@pytest.fixture(scope="module")
def folder(small_model, tmp_path_factory):
    """The page of a small model whose weights no half precision holds."""
    out = tmp_path_factory.mktemp("page")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                       # its texts are longer than this model's
        build_page(small_model, out)
    return out


@pytest.fixture(scope="module")
def frames(code):
    """Frames of four texts."""
    written = code.write_texts(["Hi Tom", "Tom had a red ball.", "Lily ran home.", "qjx vkz wqp jzv " * 4])
    assert all(one.fits for one in written)
    return np.stack([one.frame for one in written])


@pytest.fixture(scope="module")
def loud(small_model, tmp_path_factory):
    """(code, folder) of a model that is sure of all that it guesses: its words take up to all rows."""
    torch.manual_seed(0)
    model = type(small_model)(dataclasses.replace(small_model.config, max_seq_len=160), small_model.tokenizer).eval()
    folder = tmp_path_factory.mktemp("loud")
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        model.decoder.language_head.weight *= 30
        patch.setattr("wheeler.page.examples", lambda code, stories: "")
        build_page(model, folder)
    return FrameCode(model), folder


# ---- the scripts in Node --------------------------------------------------------------------------------------------


@needs_node
def test_the_dynamics_are_the_same_bits(frames):
    rng = np.random.default_rng(0)
    cases = [rng.uniform(-1, 1, (64, 64)).astype(np.float32) for _ in range(60)]
    cases += [add_noise(frames[i % 4], rng.uniform(0.1, 1.5), rng) for i in range(100)]
    cases += [rng.uniform(-1, 1, (h, w)).astype(np.float32) for h, w in ((2, 2), (3, 40), (16, 24), (33, 17))]
    cases += [rng.choice(np.float32([-1, 0, 1]), (64, 64)) for _ in range(36)]     # flat cells, waves that never end
    results = node(PAGE, [{"call": "run", "frame": sent(x), "h": x.shape[0], "w": x.shape[1]} for x in cases])
    states = set()
    for frame, found in zip(cases, results, strict=True):
        run = WheelerMemoryCPU(*frame.shape[::-1]).run_dynamics(frame)
        assert (found["ticks"], found["state"], found["period"]) == (run.ticks, run.state, run.period)
        assert base64.b64decode(found["final"]) == run.final_frame.tobytes()
        states.add(run.state)
    assert len(cases) == 200 and "CONVERGED" in states


@needs_node
def test_a_link_holds_every_sign(frames, code):
    rng = np.random.default_rng(1)
    redundant = np.stack([one.frame for one in code.write_texts(["Hi Tom"], redundant=True)])
    flipped, painted = frames[1].copy(), frames[2].copy()
    flipped[50, 20] *= -1
    painted[10:30, 5:40] = -1
    words = tile_words()[rng.integers(0, len(tile_words()), 64)].reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 64)
    cases = [*frames, *redundant, words, flipped, painted, rng.choice([-1.0, 1.0], (64, 64)), np.ones((64, 64))]
    links = node(PAGE, [{"call": "toLink", "frame": sent(frame)} for frame in cases])
    assert [len(link) == 683 for link in links] == [False] * 6 + [True] * 4       # a bit a cell, if need be
    assert max(map(len, links[:6])) <= 212 and re.fullmatch(r"[\w-]+", "".join(links))
    for frame, back in zip(cases, node(PAGE, [{"call": "fromLink", "link": link} for link in links]), strict=True):
        assert (received(back) == frame).all()


@needs_node
def test_damaged_links_are_a_frame_or_nothing(frames):
    rng = np.random.default_rng(2)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    (link,) = node(PAGE, [{"call": "toLink", "frame": sent(frames[1])}])
    cases = ["", "%", "<b>", "A", "AAAA", "=", "é", "A" * 10_000, link + "A", link[:-1], f"{link}%00"]
    cases += ["".join(rng.choice(letters, n)) for n in rng.integers(1, 700, 100)]
    for place in rng.integers(0, len(link), 89):
        cases.append(link[:place] + rng.choice(letters) + link[place + rng.integers(0, 2):])
    found = node(PAGE, [{"call": "fromLink", "link": case} for case in cases])
    assert len(cases) == 200 and found[:11] == [None] * 11
    assert all(back is None or set(np.unique(received(back))) <= {-1, 1} for back in found)
    assert sum(back is None for back in found) > 100


def damaged(frame: np.ndarray, kind: int, rng) -> np.ndarray:
    """A copy of a frame with one of seven kinds of damage."""
    out = frame.copy()
    if kind == 1:
        out = add_noise(out, 0.9, rng)
    if kind == 2:
        out[33:43, 10:40] = -1
    if kind == 3:
        out[32:] = 0
    if kind == 4:
        out[5:12, 20:50] = 1
    if kind == 5:
        out[:8, :8] = -1                                                      # the header
    if kind == 6:
        out = WheelerMemoryCPU(64, 64).run_dynamics(add_noise(out, 1.3, rng)).final_frame
    return out


def assert_read_alike(found: dict, reading) -> None:
    assert (found["text"], found["exact"], found["foreign"]) == (reading.text or "", reading.exact, reading.foreign)
    assert abs(found["tiles"] - reading.meaning_tiles) < 1e-3 and found["whole"]
    assert found["part"] == (list(reading.part) if reading.exact and reading.part else None)
    if reading.exact:
        assert found["ids"] == reading.ids and abs(found["bits"] - reading.bits) < 1e-6


@needs_node
def test_frames_are_read_as_python_reads_them(folder, frames, code):
    rng = np.random.default_rng(3)
    redundant, foreign = code.write_texts(["Hi Tom"], redundant=True)[0].frame, frames[1].copy()
    flipped = redundant.copy()
    flipped[rng.random((64, 64)) < 0.04] *= -1
    # A header of other weights: that of the frame, counted on.
    place = int((tile_words() == foreign[:8, :8].ravel()).all(1).argmax())
    foreign[:8, :8] = tile_words()[place + 40].reshape(8, 8)
    cases = [*(damaged(frames[kind % 3], kind, rng) for kind in range(4)), redundant, flipped, foreign]
    readings = [code.read(frame[None])[0] for frame in cases]
    for found, reading in zip(node(folder, [{"call": "read", "frame": sent(frame)} for frame in cases]), readings,
                              strict=True):
        assert_read_alike(found, reading)
    assert [reading.exact for reading in readings] == [True, True, False, False, True, True, False]
    assert readings[6].foreign and readings[3].text


@pytest.mark.slow
@needs_node
def test_frames_without_a_header_are_read_as_python_reads_them(folder, frames, code, small_model):
    rng = np.random.default_rng(4)
    ids, _ = encode_text("Hi Tom", small_model.tokenizer, small_model.config)
    film = code.write([ids], parts=[Part(7, 1, 3)])[0].frame
    erased = code.write_texts(["Hi Tom"], redundant=True)[0].frame.copy()
    erased[10:20, 10:30] = 0
    cases = [*(damaged(frames[kind % 3], kind, rng) for kind in (4, 5, 6)), frames[3], damaged(frames[3], 5, rng),
             erased, rng.uniform(-1, 1, (64, 64)).astype(np.float32), damaged(film, 5, rng)]
    readings = [code.read(frame[None])[0] for frame in cases]
    for found, reading in zip(node(folder, [{"call": "read", "frame": sent(frame)} for frame in cases]), readings,
                              strict=True):
        assert_read_alike(found, reading)
    assert readings[1].exact and readings[4].exact and not readings[6].exact and readings[7].part == (7, 1, 3)


@needs_node
def test_frames_of_films_are_read_as_python_reads_them(folder, code, small_model):
    ids = [encode_text(text, small_model.tokenizer, small_model.config)[0] for text in ("Tom had a ball.", "Lily ran.")]
    whole, last = code.write(ids, parts=[Part(123_456, 2, 12), Part(2**24 - 1, 4095, 4096)])
    lost = whole.frame.copy()
    lost[34:] = 0
    cases = [whole.frame, last.frame, lost]
    readings = [code.read(frame[None])[0] for frame in cases]
    found = node(folder, [{"call": "read", "frame": sent(frame)} for frame in cases])
    for one, reading in zip(found, readings, strict=True):
        assert_read_alike(one, reading)
    assert [one["part"] for one in found] == [[123_456, 2, 12], [2**24 - 1, 4095, 4096], None]


@needs_node
def test_frames_against_erasures_are_read_as_python_reads_them(folder, code):
    rng, (one,) = np.random.default_rng(8), code.write_texts(["Tom had a ball."], redundant="erasures")
    erased, unnamed, flipped, hopeless = (one.frame.copy() for _ in range(4))
    erased[10:50, 3:60] = 0
    unnamed[0, 0] = unnamed[20:40] = 0
    unnamed[1, 2] *= -1
    flipped[rng.random((64, 64)) < 0.005] *= -1
    hopeless[4:] = 0
    (longer,), third = code.write_texts(["Tom had a ball. Zoe ran to it, and 7 dogs."], redundant="erasures"), []
    for k in range(3):                                                        # with less than whole tiles tell
        third.append(longer.frame.copy())
        third[k][8 + 2 * k : 60, :52] = 0
    after = np.rint(WheelerMemoryCPU(64, 64).run_dynamics(third[0]).final_frame * 8) / 8
    noisy = [add_noise(third[1], 0.4, rng), add_noise(erased, 0.8, rng)]      # the erased area, too
    noisy.append(np.rint(WheelerMemoryCPU(64, 64).run_dynamics(add_noise(erased, 0.1, rng)).final_frame * 8) / 8)
    cases = [one.frame, erased, unnamed, flipped, *third, after, *noisy, hopeless]
    readings = [code.read(frame[None])[0] for frame in cases]
    for found, reading in zip(node(folder, [{"call": "read", "frame": sent(frame)} for frame in cases]), readings,
                              strict=True):
        assert_read_alike(found, reading)
    assert [reading.kind for reading in readings] == ["words"] * 11 + ["nothing"]


@needs_node
def test_pictures_are_those_of_python(code, frames, tmp_path):
    """Pixel for pixel, with marks; sample.py reads them, also after a lossy picture format."""
    from sample import note_in, readings_of

    rng = np.random.default_rng(9)
    halves = np.float32(np.arange(4096) % 254 + 0.5) / np.float32(127) - np.float32(1)          # between two levels
    cases = [frames[1], add_noise(frames[2], 0.9, rng), damaged(frames[0], 3, rng), np.ones((64, 64), np.float32),
             halves.reshape(64, 64), rng.uniform(-1, 1, (64, 64)).astype(np.float32)]
    files = node(PAGE, [{"call": "png", "frame": sent(frame), "weights": code.weights_name} for frame in cases])
    for frame, file in zip(cases, files, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(file)))
        assert image.mode == "P" and (np.asarray(image) == np.asarray(picture_of(frame))).all()
        assert (np.asarray(image.convert("RGB")) == np.asarray(picture_of(frame).convert("RGB"))).all()
    path, lossy = tmp_path / "story.png", tmp_path / "story.jpg"
    path.write_bytes(base64.b64decode(files[1]))                              # as noisy as it may be
    with Image.open(path) as image:
        image.convert("RGB").save(lossy, quality=30)
    for file, note in ((path, code.weights_name), (lossy, "")):
        (reading,) = readings_of(code, str(file))
        assert (reading.text, reading.exact, note_in(file)) == ("Lily ran home.", True, note)


def assert_written_alike(folder: Path, code: FrameCode, texts: list[str]) -> list:
    """Write texts in both languages, compare all, and return what Python wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = code.write_texts(texts)
    for text, one, found in zip(texts, written, node(folder, [{"call": "write", "text": text} for text in texts]),
                                strict=True):
        assert (received(found["frame"]) == one.frame).all(), text
        assert (found["fits"], found["rows"], found["tiles"]) == (one.fits, one.rows, one.tiles.tolist())
        assert found["text"] == encode_text(text, code.model.tokenizer, code.config)[1]
        assert found["tokens"] == len(one.ids) and (not one.fits or abs(found["cost"] - one.cost) < 1e-6)
    return written


@needs_node
def test_texts_are_written_as_python_writes_them(folder, code):
    assert_written_alike(folder, code, [
        "Tom had a red ball.", "a", "Lily's cat don't  run,\n\n\"Go!\" 123 é 日本 <|eos|>\u00a0x ", "qjx vkz wqp " * 8])


@needs_node
def test_free_rows_are_filled_as_python_fills_them(loud):
    """From a band that is free but for its first rows to a frame that is full."""
    code, folder = loud
    signs = "".join(random.Random(0).sample([chr(c) for c in range(0xA1, 0x3000)], 50))         # 3 tokens each
    written = assert_written_alike(folder, code, ["a", *(signs[:end] for end in (16, 20, 24, 28, 32, 36)), signs])
    assert [one.rows for one in written] == [4, 4, 5, 6, 7, 8, 8, 0]
    # A row of cells holds about 20 bits.
    spare = [code.room(one.rows) - one.cost for one in written]
    assert spare[0] > 500 and spare[5] > 60 and spare[6] < 30 and not written[7].fits


@needs_node
def test_weights_in_half_precision_give_the_same_gists(small_model, tmp_path, monkeypatch):
    """Those of the shipped model: their rest is 19 bits a number, not 32."""
    model = type(small_model)(small_model.config, small_model.tokenizer)
    model.load_state_dict({name: weight.half().float() for name, weight in small_model.state_dict().items()})
    model.eval()
    monkeypatch.setattr("wheeler.page.examples", lambda code, stories: "")
    build_page(model, tmp_path)
    kinds = {kind for name in ("reader", "gist", "writer") for kind in kinds_in(tmp_path / f"{name}.bin")}
    assert kinds >= {"half", "levels", "rest 13"} and "rest 0" not in kinds
    code = FrameCode(model)
    frame = code.write_texts(["Tom had a red ball."])[0].frame
    found = node(tmp_path, [{"call": "read", "frame": sent(x)} for x in (frame, damaged(frame, 3, None))])
    for one, case in zip(found, (frame, damaged(frame, 3, None)), strict=True):
        assert_read_alike(one, code.read(case[None])[0])
    assert found[0]["exact"] and not found[1]["exact"] and found[1]["text"]


def kinds_in(file: Path) -> set[str]:
    data = gzip.decompress(file.read_bytes())
    head = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
    return {entry["kind"] for entry in head["tensors"].values()}


# ---- the folder -----------------------------------------------------------------------------------------------------


def test_the_folder_has_all_that_the_page_asks_for(folder, small_model):
    names = {path.name for path in folder.iterdir()}
    asked = set(re.findall(r'(?:src|href)="([^"#]+)"', (PAGE / "index.html").read_text(encoding="utf-8")))
    worker = (PAGE / "worker.js").read_text(encoding="utf-8")
    asked |= set(re.findall(r'"(\w+\.js)"', worker)) | {"worker.js"}
    assert names == asked | {"index.html", "reader.bin", "gist.bin", "writer.bin"}
    assert [story["title"] for story in stories_of(folder / EXAMPLES)] == [
        story["title"] for story in stories_of(PAGE / EXAMPLES)]
    assert f'"weights": "{small_model.fingerprint()}"' in (folder / EXAMPLES).read_text(encoding="utf-8")
    assert not list(PAGE.glob("*.bin"))                                       # large, and made anew


def test_nothing_is_inserted_as_html_and_nothing_asked_elsewhere():
    scripts = {path.name: path.read_text(encoding="utf-8") for path in PAGE.glob("*.js")}
    barred = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|https?:")
    assert [name for name, script in scripts.items() if barred.search(script)] == []
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    assert "default-src 'self'" in page and not re.search(r"https?:|<script>|style=|\son\w+=", page)
    assert len(scripts["reader.js"].splitlines()) <= 600


def test_a_model_that_the_page_cannot_read(small_model, tmp_path):
    from tokenizers import pre_tokenizers

    make, config = type(small_model), small_model.config
    other = copy.deepcopy(small_model.tokenizer)
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    sizes = dict(vocab_size=512, encoder_layers=1, decoder_layers=1, max_seq_len=16)
    small, wide = (type(config)(**sizes, **more) for more in ({"grid_size": 32, "d_model": 64}, {"d_model": 576}))
    for model, said in ((make(config, None), "this model has none"), (make(config, other), "another tokenizer"),
                        (make(small, small_model.tokenizer), "has grid_size = 32, d_model = 64"),
                        (make(wide, small_model.tokenizer), "has grid_size = 64, d_model = 576")):
        with pytest.raises(ValueError, match=said):
            build_page(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_stays_as_it_is(small_model, tmp_path, monkeypatch):
    monkeypatch.setattr("wheeler.page.examples", lambda code, stories: "")
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ValueError, match="has files that are no page"):
        build_page(small_model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "mine"
    build_page(small_model, tmp_path / "new")
    first = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    (tmp_path / "new/page.js").write_text("old")
    build_page(small_model, tmp_path / "new")                                 # an earlier page is written over
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == first


@pytest.mark.parametrize("make", ["file", "below"])
def test_app_names_a_folder_that_cannot_be_written(small_model, tmp_path, monkeypatch, capsys, make):
    app = pytest.importorskip("app")
    monkeypatch.setattr(app.WheelerTextAutoencoder, "load_from_checkpoint", lambda path: small_model)
    monkeypatch.setattr("wheeler.page.examples", lambda code, stories: "")
    (tmp_path / "file").write_text("mine")
    place = tmp_path / ("file" if make == "file" else "file/below")
    assert app.main(["--page", str(place)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("app.py: ") and error.count("\n") == 1 and str(place) in error
    assert make == "below" or f"--page {place}: it is a file, no folder" in error
    assert (tmp_path / "file").read_text() == "mine"


def test_app_writes_a_ready_folder(small_model, tmp_path, monkeypatch, capsys):
    app = pytest.importorskip("app")
    monkeypatch.setattr(app.WheelerTextAutoencoder, "load_from_checkpoint", lambda path: small_model)
    monkeypatch.setattr("wheeler.page.examples", lambda code, stories: "")
    assert app.main(["--page", str(tmp_path / "site")]) == 0
    assert "put them on any host" in capsys.readouterr().out and (tmp_path / "site/reader.bin").is_file()


# ---- a real browser -------------------------------------------------------------------------------------------------


class Site:
    """The page in a browser. folder: of the page's files, served on this machine."""

    def __init__(self, browser, folder: Path):
        self.browser, self.server = browser, server(folder, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def open(self, width=1280, calm=False, fragment=""):
        """Open it anew in a window of that width; calm: with reduced motion."""
        self.browser.get("about:blank")
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
        motion = {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [motion]})
        self.browser.get(self.url + fragment)
        # It may come back too early.
        started = "return document.readyState === 'complete' && document.getElementById('examples').length > 10"
        self.until(lambda: self.browser.execute_script(started), "the page does not start")

    def find(self, name):
        return self.browser.find_element("id", name)

    def text(self, name) -> str:
        return self.browser.execute_script(f"return document.getElementById('{name}').textContent")

    def cells(self) -> np.ndarray:
        """(64, 64) of the red that is shown: 24 for -1 to 255 for +1."""
        return np.array(self.browser.execute_script(
            "return [...document.getElementById('picture').getContext('2d').getImageData(0, 0, 64, 64).data]"
        )).reshape(64, 64, 4)[..., 0]

    def signs(self) -> np.ndarray:
        return np.where(self.cells() < 140, -1.0, 1.0)

    def until(self, condition, what: str, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"{what}: {[self.text(name) for name in ('verdict', 'status', 'text')]}")

    def idle(self) -> bool:
        return self.browser.execute_script("return ['read', 'write'].every(id => !document.getElementById(id).disabled)"
                                           "&& document.getElementById('progress').hidden")

    def finish(self):
        self.until(self.idle, "the worker does not come to an end")

    def read(self) -> tuple[str, bool]:
        """What the picture says, and whether the page calls it word for word."""
        self.finish()
        return self.text("text"), self.text("verdict").startswith("✓")

    def give(self, file: Path, drop=False):
        """Open a picture, or drop it on the page."""
        if not drop:
            self.find("file").send_keys(str(file))
            return
        self.browser.execute_script(
            "const files = new DataTransfer(), bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));"
            "files.items.add(new File([bytes], 'a.png', {type: 'image/png'}));"
            "dispatchEvent(new DragEvent('drop', {dataTransfer: files, cancelable: true}))",
            base64.b64encode(file.read_bytes()).decode())

    def slide(self, name, value):
        self.browser.execute_script("const input = document.getElementById(arguments[0]); input.value = arguments[1];"
                                    "input.dispatchEvent(new Event('input'))", name, value)

    def check(self):
        """No error in the console, no request to anywhere else since the last check."""
        sent = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
        assert [u for u in urls if not u.startswith(("http://127.0.0.1:", "blob:", "about:"))] == []
        assert [e["message"] for e in self.browser.get_log("browser") if e["level"] == "SEVERE"] == []


@pytest.fixture(scope="module")
def bare(browser):
    """The page as it lies in the repository, without a network to read with."""
    site = Site(browser, PAGE)
    yield site
    site.server.shutdown()


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_opens_moves_and_is_painted_on(bare, width):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.pointer_input import PointerInput
    from selenium.webdriver.common.keys import Keys

    bare.open(width)
    bare.until(lambda: bare.browser.execute_script("return performance.getEntriesByName('motion').length"), "no motion")
    assert bare.text("text") == stories_of(PAGE / EXAMPLES)[0]["text"]
    assert bare.browser.execute_script("return document.documentElement.scrollWidth") <= width
    bare.until(lambda: len(np.unique(bare.cells())) > 2, "no noise is seen")
    bare.find("play").click()
    still = bare.cells()
    time.sleep(0.3)
    assert bare.find("play").text == "Play" and (bare.cells() == still).all()
    last = int(bare.find("tick").get_attribute("max"))
    bare.slide("tick", last)
    healed = bare.cells()
    assert last > 10 and set(np.unique(bare.signs())) == {-1, 1}
    bare.slide("noise", 0)
    assert (bare.signs() == np.where(healed < 140, -1, 1)).all()
    bare.browser.execute_script("document.querySelector('input[name=brush][value=\"0\"]').click()")
    canvas = bare.find("picture")
    device = PointerInput("touch", "finger") if width == 360 else PointerInput("mouse", "mouse")
    hand = ActionChains(bare.browser, 20, [device]).move_to_element_with_offset(canvas, -40, -30)
    hand.click_and_hold().move_by_offset(80, 0).release().perform()
    assert (bare.cells() != healed).sum() > 30 and "changed" in bare.text("verdict")
    bare.find("restore").click()
    assert (bare.cells() == np.where(healed < 140, 24, 255)).all()
    canvas.send_keys(Keys.ARROW_DOWN, Keys.ARROW_LEFT, " ")
    changed = np.argwhere(bare.cells() != np.where(healed < 140, 24, 255))
    assert 0 < len(changed) and (np.ptp(changed, 0) < 30).all()
    bare.find("restore").click()
    bare.find("link").click()
    bare.until(lambda: "link" in bare.text("status"), "no link is made")
    link = bare.browser.current_url.split("#f=")[1]
    assert len(link) < 212 and link == bare.browser.execute_script(
        "const story = EXAMPLES.stories[0]; return Wheeler.toLink(Wheeler.fromLink(story.frame, 64, 64), 64, 64)")
    bare.check()


def test_the_page_stands_still_for_who_wants_it_to(bare):
    bare.open(calm=True)
    bare.until(lambda: bare.text("text"), "no text")
    before = bare.cells()
    time.sleep(0.3)
    assert (bare.cells() == before).all() and len(np.unique(before)) < 5 and bare.find("play").text == "Play"
    bare.find("read").click()
    bare.until(lambda: "reader.bin is not beside this page" in bare.text("status"), "a missing file is not named")
    assert bare.idle()
    assert [e for e in bare.browser.get_log("browser") if
            e["level"] == "SEVERE" and "reader.bin" not in e["message"]] == []


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_text_that_is_none_is_not_written(bare, text):
    bare.open(calm=True)
    before, story = bare.cells(), bare.text("text")
    bare.browser.execute_script("document.getElementById('own').value = arguments[0];"
                                "document.getElementById('write').click()", text)
    assert bare.text("status") == "There is no text yet." and bare.idle()
    assert (bare.cells() == before).all() and bare.text("text") == story


def test_every_control_has_a_name(bare):
    bare.open(calm=True)
    tree = bare.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = [(node["role"]["value"], node["name"]["value"]) for node in tree if not node["ignored"] and
                node["role"]["value"] in ("button", "slider", "textbox", "combobox", "radio", "application", "region")]
    assert all(name for _, name in controls) and len(controls) >= 16, controls
    assert {"Play", "Undo damage", "Noise", "Tick", "Brush", "Read the picture", "Copy link", "A story of your own",
            "Ten stories to look at"} <= {name for _, name in controls}


# ---- the shipped model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    from models import WheelerTextAutoencoder

    return FrameCode(WheelerTextAutoencoder.load_from_checkpoint("checkpoints/wheeler-21m"))


@pytest.fixture(scope="module")
def site(browser, shipped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build_page(shipped.model, folder)
    site = Site(browser, folder)
    yield site
    site.server.shutdown()


def own_stories(count: int) -> list[str]:
    from wheeler.training.stories import stories

    return [*(" ".join(story.split()[:40 + 7 * i]) for i, story in enumerate(stories("validation", count - 1))),
            "x7 qZ. " * 200]                                                  # does not fit: a gist alone


@pytest.mark.slow
def test_the_examples_are_what_the_shipped_model_writes(shipped, site):
    assert (site_folder(site) / EXAMPLES).read_text(encoding="utf-8") == (PAGE / EXAMPLES).read_text(encoding="utf-8")
    sizes = {name: (site_folder(site) / name).stat().st_size for name in ("reader.bin", "gist.bin", "writer.bin")}
    rest = sum(path.stat().st_size for path in PAGE.iterdir())
    assert sizes["reader.bin"] + sizes["gist.bin"] + rest < 25e6 and sizes["reader.bin"] + sizes["writer.bin"] < 26e6


def site_folder(site) -> Path:
    return Path(site.server.RequestHandlerClass.keywords["directory"])


@pytest.mark.slow
def test_the_page_reads_links_and_pictures_and_writes_as_python_does(shipped, site, tmp_path):
    from sample import readings_of

    rng, texts = np.random.default_rng(5), own_stories(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = shipped.write_texts(texts)
    # The last is nonsense, and half a grey level of noise would make another gist of it.
    frames = [damaged(one.frame, i % 4 if i < 9 else 0, rng) for i, one in enumerate(written)]
    expected = [shipped.read(np.where(frame < 0, -1, 1)[None].astype(np.float32))[0] for frame in frames]
    links = node(PAGE, [{"call": "toLink", "frame": sent(frame)} for frame in frames])
    for link, reading in zip(links, expected, strict=True):
        site.open(360, fragment=f"#f={link}")
        assert site.read() == (reading.text, reading.exact), (site.text("verdict"), site.text("status"))
    site.check()
    assert sum(reading.exact for reading in expected) >= 4
    site.open(1280)
    for i, frame in enumerate(frames):
        image = picture_of(frame) if i % 2 else frame_image(frame, scale=4)
        (image.convert("L") if i in (2, 4, 9) else image).save(tmp_path / "frame.png")
        site.give(tmp_path / "frame.png", drop=i % 3 == 0)
        site.until(lambda: not site.idle(), "nothing is read", 10)
        (reading,) = readings_of(shipped, str(tmp_path / "frame.png"))
        assert site.read() == (reading.text, reading.exact), i
    for width, part in ((1280, range(5)), (360, range(5, 10))):
        site.open(width)
        for i in part:
            site.browser.execute_script("document.getElementById('own').value = arguments[0]", texts[i])
            site.browser.execute_script("document.getElementById('write').click()")
            site.until(lambda: not site.idle(), "nothing is written", 5)
            site.finish()
            assert (site.signs() == written[i].frame).all() and site.text("text") == expected_text(shipped, texts[i])
            assert ("Written" in site.text("verdict")) == written[i].fits
    site.check()


def expected_text(code, text: str) -> str:
    return encode_text(text.strip(), code.model.tokenizer, code.model.config)[1]


@pytest.mark.slow
def test_the_page_says_where_a_frame_of_a_film_belongs(shipped, site):
    ids, text = encode_text("Tom had a red ball.", shipped.model.tokenizer, shipped.config)
    (one,) = shipped.write([ids], parts=[Part(5, 2, 12)])
    (link,) = node(PAGE, [{"call": "toLink", "frame": sent(one.frame)}])
    site.open(360, fragment=f"#f={link}")
    assert site.read() == (text, True) and site.text("status").startswith("Frame 3 of 12 of a longer text; ")
    site.check()


@pytest.mark.slow
def test_what_is_saved_is_read_by_python(shipped, site, tmp_path):
    from sample import note_in, readings_of

    site.open(calm=True)
    site.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    site.find("save").click()
    path = tmp_path / "story.png"
    site.until(path.is_file, "nothing is saved", 20)
    story = stories_of(PAGE / EXAMPLES)[0]["text"]
    with Image.open(path) as image:
        assert image.size == (656, 656)
        shown, wanted = image.convert("RGB"), picture_of(shipped.write_texts([story])[0].frame).convert("RGB")
        shown.save(tmp_path / "story.jpg", quality=50)
    # At rest before the noise comes: the frame itself.
    assert (np.asarray(shown) == np.asarray(wanted)).all()
    assert note_in(path) == shipped.weights_name
    for name in ("story.png", "story.jpg"):
        (reading,) = readings_of(shipped, str(tmp_path / name))
        assert reading.exact and reading.text == story, name
    site.give(path)                                                           # and the page reads what it saved
    site.until(lambda: not site.idle(), "nothing is read", 10)
    assert site.read() == (story, True)
    site.check()


@pytest.mark.slow
def test_the_page_is_quick(site):
    """Generous limits: machines differ. docs/page.md has what was measured."""
    site.open(1280)
    mark = lambda name: site.browser.execute_script(
        f"return performance.getEntriesByName('{name}').map(e => e.startTime)[0]")
    site.until(lambda: mark("motion"), "no motion")
    site.find("read").click()
    site.until(lambda: mark("word"), "no word")
    text, exact = site.read()
    assert exact and mark("motion") < 5000 and text == stories_of(PAGE / EXAMPLES)[0]["text"]


@pytest.mark.slow
def test_a_thousand_damaged_links_and_two_hundred_damaged_pictures(site, shipped, tmp_path):
    rng = np.random.default_rng(6)
    frame = shipped.write_texts(["Tom had a red ball. <b onclick=alert(1)>Lily</b> ran home."])[0].frame
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    (link,) = node(PAGE, [{"call": "toLink", "frame": sent(frame)}])
    cases = ["<img src=x onerror=alert(1)>", "%3Cscript%3Ealert(1)%3C/script%3E", "", "=", "é" * 40, "A" * 100_000]
    cases += ["".join(rng.choice(letters, n)) for n in rng.integers(1, 700, 494)]
    while len(cases) < 1000:
        place = int(rng.integers(0, len(link)))
        cases.append(link[:place] + rng.choice(letters) + link[place + int(rng.integers(0, 2)):])
    site.open(calm=True)
    site.browser.set_script_timeout(300)
    answers = site.browser.execute_async_script(
        "const [cases, done] = arguments, out = []; (async () => { for (const text of cases) {"
        "history.replaceState(null, '', '#f=' + text); dispatchEvent(new HashChangeEvent('hashchange'));"
        "await new Promise(resolve => setTimeout(resolve, 0));"
        "out.push(['status', 'verdict'].map(id => document.getElementById(id).textContent).join(' ').trim()); }"
        "done(out); })()", cases)
    assert all(answers) and sum("no picture" in answer for answer in answers) > 500
    site.finish()
    assert site.text("verdict")
    raw, scaled = io.BytesIO(), io.BytesIO()
    frame_image(frame, 1).save(raw, format="PNG")
    frame_image(frame, 4).save(scaled, format="PNG")
    for i in range(200):
        data = bytearray((raw, scaled)[i % 2].getvalue())
        if i % 4 < 2:
            data = data[: int(rng.integers(0, len(data)))]
        for place in rng.integers(0, max(1, len(data)), int(rng.integers(1, 6))):
            if len(data):
                data[place] = int(rng.integers(0, 256))
        (tmp_path / "damaged.png").write_bytes(data)
        site.browser.execute_script(
            "for (const id of ['status', 'verdict']) document.getElementById(id).textContent = ''")
        site.give(tmp_path / "damaged.png")
        site.until(lambda: site.text("status") or site.text("verdict"), f"picture {i} is met with silence", 20)
    site.finish()
    assert not site.browser.execute_script("return document.querySelectorAll('#text *, #status *, #verdict *').length")
    site.check()
