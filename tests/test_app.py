"""app.py: what the page does, without a page, and the page itself in a real browser where there is one."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

gr = pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

from conftest import free_port, wait_until  # noqa: E402

import app  # noqa: E402
import wheeler.app.player  # noqa: E402
from wheeler.app.player import Player, examples, stands_out  # noqa: E402
from wheeler.app.tabs import MEASURES, QUESTION, alert  # noqa: E402
from wheeler.app.widgets import LEVELS, from_cells, to_cells  # noqa: E402
from wheeler.frame.contents import ReadOnce  # noqa: E402
from wheeler.model.inputs import encode_text  # noqa: E402
from wheeler_store import Recall  # noqa: E402

TEXT = "Tom had a red ball."


@pytest.fixture(scope="module")
def player(small_model):
    return Player(small_model)


def test_cells_are_the_frame_and_nothing_else_is_taken():
    frame = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.abs(from_cells(to_cells(frame), 8) - frame).max() <= 1 / LEVELS
    signs = np.sign(frame)
    assert (from_cells(to_cells(signs), 8) == signs).all()
    assert np.abs(from_cells("ff" * 64, 8)).max() == 1                        # above the highest level
    for bad in ("", "zz" * 64, "00" * 63, None, 3, "00" * 65):
        with pytest.raises(ValueError, match="no frame"):
            from_cells(bad, 8)


# ---- one frame ------------------------------------------------------------------------------------------------------


def test_write_disturb_collapse_read(player, small_model):
    cells, note = player.write(TEXT)
    assert (from_cells(cells, 64) == small_model.encode_frame(TEXT)[0].numpy()).all()
    assert note == "11 tokens, 73 of about 1257 bits, 31 meaning tiles"
    history, note, readings = player.collapse(cells, noise=0.9)
    assert [(r.text, r.exact) for r in readings] == [(TEXT, True)] * 2 and note.startswith("CONVERGED")
    assert history.dtype == np.uint8 and history.shape[1:] == (64, 64) and len(history) > 10
    assert not (np.asarray(player.tick(history, 0)) == np.asarray(player.tick(history, 99))).all()
    assert player.tick(history, -3).size == (512, 512)


def test_one_tick_is_one_tick(player):
    assert player.collapse(player.write(TEXT)[0], noise=0)[1] == "CONVERGED after 1 tick"


def test_without_its_words_a_frame_gives_a_gist(player, small_model):
    frame = from_cells(player.write(TEXT)[0], 64)
    frame[32:] = 0
    _, _, (before, after) = player.collapse(to_cells(frame), noise=0)
    assert player.said(before, TEXT) == "✗ gist: " + before.text and player.said(after, TEXT).startswith("✗ gist: ")
    assert not before.exact and not after.exact and before.text == small_model.read_frame(frame)[0].text != ""
    _, _, (before, _) = player.collapse(to_cells(np.ones((64, 64))), noise=0.5)
    assert (before.text, before.exact) == ("", False)                         # a blank frame has no gist
    assert player.said(before, TEXT) == "✗ nothing can be read, neither words nor meaning"


def test_a_painted_block_breaks_the_plain_frame_and_not_the_redundant_one(player):
    for redundant in ("", "flips"):
        cells, _ = player.write("Hi Tom", redundant)
        frame = from_cells(cells, 64)
        frame[33:43, 20:30] = -1                                              # where the short text stands
        _, _, readings = player.collapse(to_cells(frame), noise=0)
        assert [reading.exact for reading in readings] == [bool(redundant)] * 2
        assert (readings[0].text == "Hi Tom") == bool(redundant)


def test_half_of_a_frame_against_erasures_is_enough(player):
    frame = from_cells(player.write("Hi Tom", "erasures")[0], 64)
    frame[10:42] = 0
    (reading,) = player.read(frame[None])
    assert player.said(reading, "Hi Tom") == "✓ Hi Tom"
    with pytest.raises(ValueError, match="redundant is 'never'"):
        player.write("Hi Tom", "never")


def test_a_text_that_does_not_fit_says_so_and_shows_its_gist(player):
    text = "Über das Große: wyvern, kiwi, jazz, Ωβδ, quartz 8*7? Ξψ ½ œuf"
    cells, note = player.write(text, redundant="flips")
    found = re.fullmatch(r"\d+ tokens, they cost (\d+) bits, a redundant frame holds about 472 bits: its gist is in 63 "
                         "meaning tiles, its words are not", note)
    with pytest.warns(UserWarning, match=f"costs {found[1]} bits under this model, a frame of 64 x 64 holds about 472"):
        player.model.encode_frame(text, redundant=True)
    assert int(found[1]) > 472
    _, _, readings = player.collapse(cells, noise=0.5)
    assert [reading.exact for reading in readings] == [False] * 2 and readings[0].text not in ("", text)
    assert player.write("x" * 10**6)[1].startswith("64 tokens of a text that was cut, ")


@pytest.mark.parametrize("text, said", [("", "no text yet"), (" \n ", "no text yet"), ("half \ud800", "valid Unicode")])
def test_what_is_no_text_is_refused_everywhere(player, text, said):
    memory = player.remember(None, [TEXT])
    for call in (lambda: player.write(text), lambda: player.between(TEXT, text), lambda: player.between(text, TEXT),
                 lambda: player.remember(memory, ["Hi Tom", text]), lambda: player.recall(memory, text)):
        with pytest.raises(ValueError, match=said):
            call()
    assert list(memory) == [TEXT]


@pytest.mark.parametrize("value", [None, "", "half", float("nan")])
def test_what_is_no_number_is_refused_everywhere(player, value):
    cells, _ = player.write("Hi Tom")
    history, *_ = player.collapse(cells, 0)
    for call in (lambda: player.collapse(cells, value), lambda: player.tick(history, value),
                 lambda: player.left(cells, value), lambda: player.position([("Hi Tom", cells)], value)):
        with pytest.raises(ValueError, match="That is no number"):
            call()
    with pytest.raises(ValueError, match="Write a text into a frame first"):
        player.tick(None, 0)


def test_what_was_read_is_not_read_again(player, monkeypatch):
    frames, asked = np.stack([from_cells(player.write(text)[0], 64) for text in (TEXT, "Hi Tom", "Lily ran.")]), []
    code = player.model.frame_code()
    once, read = ReadOnce(code, most=2), code.read
    monkeypatch.setattr(code, "read", lambda frames: asked.append(len(frames)) or read(frames))
    monkeypatch.setattr(player, "code", once)
    texts = lambda some: [reading.text for reading in player.read(some)]
    assert texts(frames[:2]) == texts(frames[[0, 1, 0]])[:2] == [TEXT, "Hi Tom"] and asked == [2]
    assert texts(frames[[1, 2, 2]]) == ["Hi Tom", "Lily ran.", "Lily ran."] and asked == [2, 1]
    assert texts(frames[:1]) == [TEXT] and asked == [2, 1, 1]                 # the oldest was forgotten
    assert texts(frames[:1] * 0.9999) == [TEXT] and asked == [2, 1, 1]        # as the dynamics leave a frame
    assert texts(frames[:1] * 0.99) == [TEXT] and asked == [2, 1, 1, 1]


# ---- what is left, what lies between ---------------------------------------------------------------------------------


def test_an_erased_frame_goes_from_the_text_to_a_gist_to_nothing(player, small_model):
    cells, _ = player.write(TEXT)
    frame, kinds, tiles = from_cells(cells, 64), [], []
    for percent in range(0, 101, 10):
        picture, reading, note = player.left(cells, percent)
        gone = player.erased(cells, percent)
        assert (gone == 0).sum() == round(4096 * percent / 100) and (gone[gone != 0] == frame[gone != 0]).all()
        assert picture.size == (512, 512) and note.startswith(f"{percent}% of the cells are erased. What is read is ")
        assert f"; {reading.meaning_tiles:.3g} of 31 meaning tiles are left." in note
        kinds.append(reading.kind)
        tiles.append(reading.meaning_tiles)
    assert list(dict.fromkeys(kinds)) == ["words", "gist", "nothing"] and kinds[2] == "words" and kinds[5:9] == [
        "gist"] * 4
    assert tiles == sorted(tiles, reverse=True) and tiles[5] == 31 > tiles[6] > tiles[8] > 0 == tiles[-1]
    assert player.erased(cells, 99)[0, 0] == frame[0, 0] and not player.erased(cells, 99)[8:].any()       # the header
    assert (player.erased(cells, -5) == frame).all() and not player.erased(cells, 1e9).any()
    with pytest.raises(ValueError, match="no frame"):
        player.left("", 50)


def test_texts_between_two(player, small_model):
    row = player.between(TEXT, "The fox was sad.")
    told = small_model.interpolate(TEXT, "The fox was sad.", 11)
    assert [text for text, _ in row] == [  # untrained, it tells more than 64 tokens
        encode_text(text, small_model.tokenizer, small_model.config)[1] for text in told] and len({*told}) > 4
    for share, text in ((0, TEXT), (1, "The fox was sad."), (-2, TEXT), (7.5, "The fox was sad.")):
        picture, reading, told = player.position(row, share)
        assert (reading.text, reading.exact, told) == (text, True, text)
        assert (np.asarray(picture) == np.asarray(player.picture(small_model.encode_frame(text)[0].numpy()))).all()
    _, reading, told = player.position(row, 0.5)
    assert told == row[5][0] and player.said(reading, told) == "✓ " + told
    with pytest.raises(ValueError, match="Make the texts"):
        player.position(None, 0.5)


# ---- memories -------------------------------------------------------------------------------------------------------


def test_memory_recalls_by_words_and_by_a_damaged_frame(player, monkeypatch):
    texts = [TEXT, "Lily ran home.", "The fox was sad."]
    memory = player.remember(player.remember(None, texts[:1]), texts[1:])
    for by in ("frame", "meaning"):
        found = player.recall(memory, "Lily ran", by)
        assert [one.text for one in found][0] == "Lily ran home." and len(found) == 3
        assert found[0].similarity > found[1].similarity + 0.02
    cells, _ = player.write("Lily ran home.")
    damaged = from_cells(cells, 64)
    damaged[:32] = 0
    found = player.recall(memory, player.disturbed(to_cells(damaged), 0.5))
    assert found[0].text == "Lily ran home." and found[0].similarity > found[1].similarity + 0.2
    picture, reading = player.remembered(memory, found[0].text)
    assert player.said(reading, found[0].text) == "✓ Lily ran home."
    assert (np.asarray(picture) == np.asarray(player.picture(from_cells(cells, 64)))).all()
    monkeypatch.setattr(wheeler.app.player, "MEMORIES", 3)
    with pytest.raises(ValueError, match="3 texts are all"):
        player.remember(memory, ["one more"])
    assert len(player.remember(memory, [TEXT])) == 3                          # a known text is replaced
    with pytest.raises(ValueError, match="Nothing is remembered"):
        player.recall(None, TEXT)
    with pytest.raises(ValueError, match="by is 'sound'"):
        player.recall(memory, TEXT, "sound")


def test_ten_stories_are_remembered_at_once(player, recwarn):
    memory = player.remember(None, examples())
    assert len(memory) == 10 == len({*memory}) and not recwarn.list           # that this model cuts them is no news
    assert all(story.startswith(text) for story, text in zip(examples(), memory, strict=True))
    long = player.remember(None, ["x" * 5000])
    assert player.recall(long, "x" * 5000)[0].exact


def test_a_clear_lead_stands_out_too():
    found = lambda alike, *similar: [Recall("", one, "", "", 1, {}, True, alike) for one in similar]
    assert stands_out(found(True, 0.5), "meaning") and stands_out(found(True, 0.5, 0.49), "frame")
    assert not stands_out(found(False, 0.5), "meaning") and not stands_out(found(False, 0.5, 0.45), "meaning")
    assert stands_out(found(False, 0.5, 0.4), "meaning") and stands_out(found(False, 0.5, 0.44), "frame")


@pytest.mark.slow
def test_the_question_of_the_page_finds_its_story_among_the_examples():
    player = Player(app.WheelerTextAutoencoder.load_from_checkpoint("checkpoints/wheeler-21m"))
    memory = player.remember(None, examples())
    for _, by in MEASURES:
        found = player.recall(memory, QUESTION, by)
        assert found[0].text == examples()[1] and stands_out(found, by)


def test_sentences_on_the_page_are_no_html():
    def fail(text):
        raise ValueError(f"{text} is too long")

    with pytest.raises(gr.Error) as error:
        alert(fail)("<b>Tom</b>")
    assert error.value.message == "&lt;b&gt;Tom&lt;/b&gt; is too long" and not error.value.print_exception


@pytest.mark.parametrize("words, message", [
    (["--port", "0"], "--port 0 must be in 1 .. 65535"), (["--checkpoint", "no.pt"], "no checkpoint at no.pt"),
    (["--port", "x"], "invalid int value"), (["--host", ""], "--host is empty"),
    (["--host", "nohost.invalid"], "app.py: --host nohost.invalid: "), (["--host", "a..b"], "--host a..b: no name"),
    (["--host", "192.0.2.1"], "app.py: --host 192.0.2.1: "), (["--watch", ""], "--watch '' names no folder"),
])
def test_bad_command_lines(words, message, capsys):
    try:
        code = app.main(["--port", str(free_port()), *words])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize("page", [[], ["--page"], ["--watch", "."]])
def test_a_taken_port_is_named_before_anything_is_loaded(monkeypatch, capsys, page):
    monkeypatch.setattr(app.WheelerTextAutoencoder, "load_from_checkpoint", None)
    monkeypatch.setattr(app.runs, "page", None)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert app.main(["--port", str(port), *page]) == 2
    assert capsys.readouterr().err == f"app.py: --port {port}: {os.strerror(errno.EADDRINUSE)}\n"


def test_the_page_answers_on_this_machine_only(small_model, monkeypatch):
    seen = {}
    monkeypatch.setattr(app.WheelerTextAutoencoder, "load_from_checkpoint", lambda path: small_model)
    monkeypatch.setattr(gr.Blocks, "launch", lambda page, **flags: seen.update(flags, page=page))
    assert app.main(["--port", str(free_port())]) == 0
    assert seen["server_name"] == "127.0.0.1" and seen["share"] is False and not seen["page"].analytics_enabled
    assert all(event.api_visibility == "private" for event in seen["page"].fns.values())


def test_no_proxy_is_asked_and_the_environment_comes_back(small_model, monkeypatch, tmp_path):
    monkeypatch.setattr(app.WheelerTextAutoencoder, "load_from_checkpoint", lambda path: small_model)
    monkeypatch.setattr(app, "TEMPORARY", str(tmp_path / "own"))
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    before, handler, seen = dict(os.environ), signal.getsignal(signal.SIGTERM), []

    def launch(page, **flags):
        seen.append((httpx.Client()._mounts, signal.getsignal(signal.SIGTERM), os.stat(app.TEMPORARY).st_mode & 0o777))

    monkeypatch.setattr(gr.Blocks, "launch", launch)
    assert httpx.Client()._mounts and app.main(["--port", str(free_port())]) == 0
    assert seen[0][0] == {} and seen[0][1] is not handler and seen[0][2] == 0o700
    assert dict(os.environ) == before and signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.slow
@pytest.mark.parametrize("proxy", [{"http_proxy": "http://127.0.0.1:9"}, {"all_proxy": "socks5://127.0.0.1:9"}])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_starts_behind_a_proxy_and_leaves_nothing(small_model, tmp_path, proxy, number):
    """And in a folder for temporary files where gradio's belongs to somebody else."""
    torch.save(small_model.to_checkpoint(), tmp_path / "best.pt")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp/gradio").write_text("not a folder")
    port = free_port()
    command = [sys.executable, app.__file__, "--checkpoint", str(tmp_path / "best.pt"), "--port", str(port)]
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:4] != "GRAD"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                          env=clean | proxy | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONUNBUFFERED": "1"}) as process:
        line = process.stdout.readline()
        assert line == f"Running on local URL:  http://127.0.0.1:{port}\n", process.stderr.read()
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode in ((0, 130) if number == signal.SIGINT else (143,))
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["gradio"]


# ---- a real browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(player):
    page = app.build(player)
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **app.LAUNCH)
    yield url
    page.close()


class Visit:
    """The page in a browser."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def open(self, width):
        self.width = width
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 1160, "deviceScaleFactor": 1, "mobile": width < 600})
        self.browser.get(self.address)
        self.until(lambda: self.value("after").startswith("✓ "), "the page does not start")

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def value(self, name):
        return self.find(f"#{name} textarea, #{name} input").get_attribute("value")

    def cells(self):
        """(64, 64) of the red of the canvas."""
        return np.array(self.browser.execute_script(
            "const c = document.querySelector('#canvas canvas'); return [...c.getContext('2d').getImageData(0, 0, 64, "
            "64).data]")).reshape(64, 64, 4)[..., 0]

    def source(self, name):
        return self.find(f"#{name} img").get_attribute("src")

    def until(self, condition, what):
        boxes = lambda: self.browser.find_elements("css selector", "textarea")
        wait_until(condition, lambda: f"{what}: {[box.get_attribute('value') for box in boxes()]}")

    def tab(self, name, control):
        (button,) = [one for one in self.browser.find_elements("css selector", "button[role=tab]")
                     if one.text == name and one.is_displayed()]
        self.click(button)
        self.until(lambda: self.find(f"#{control}").is_displayed(), f"the tab {name} does not open")
        assert self.browser.execute_script(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name

    def type(self, name, text):
        from selenium.webdriver.common.keys import Keys

        box = self.find(f"#{name} textarea, #{name} input")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)

    def click(self, what):
        """An element, or the one of that id."""
        # Without the mouse: a telephone's page is long, and scrolling to a button takes its time.
        self.browser.execute_script("arguments[0].click()", self.find(f"#{what}") if isinstance(what, str) else what)

    def choose(self, kind):
        """A kind of frame: plain, against flips, against erasures."""
        self.click(self.browser.find_elements("css selector", "#redundant input")[kind])

    def write(self, text):
        self.type("text", text)
        self.click("write")
        self.until(lambda: self.value("after") == f"✓ {text}" == self.value("before"), f"{text!r} is not read back")

    def stroke(self, level, start, end):
        """With the mouse, or a finger on a telephone, from cell (row, column) to cell."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        self.click(f"canvas [data-level='{level}']")
        canvas = self.find("#canvas canvas")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
        (y, x), (down, right) = start, (end[0] - start[0], end[1] - start[1])
        cell = canvas.size["width"] / 64
        device = PointerInput("touch", "finger") if self.width < 600 else PointerInput("mouse", "mouse")
        ActionChains(self.browser, 20, [device]).move_to_element_with_offset(
            canvas, round((x - 31.5) * cell), round((y - 31.5) * cell)).click_and_hold().move_by_offset(
            round(right * cell), round(down * cell)).release().perform()

    def slide(self, name, keys):
        self.find(f"#{name} input[type=range]").send_keys(*keys)

    def check(self):
        """Nothing went elsewhere, and nothing went wrong."""
        sent = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
        assert [u for u in urls if not u.startswith((self.address.rstrip("/"), "data:", "blob:"))] == []
        assert [e["message"] for e in self.browser.get_log("browser") if e["level"] == "SEVERE"] == []


def use_frame(visit):
    visit.write(TEXT)
    canvas, picture = visit.find("#canvas canvas").rect, visit.find("#shown").rect
    assert canvas["width"] == canvas["height"] == picture["width"] == picture["height"]
    assert canvas["y"] == picture["y"] if visit.width > 1000 else canvas["x"] == picture["x"]
    first = visit.cells()
    assert len(np.unique(first)) == 2 and "CONVERGED" in visit.value("state")
    assert int(visit.value("tick")) > 5                                       # noise 0.5 from the start
    picture = visit.source("shown")
    visit.slide("tick", HOME)
    visit.until(lambda: visit.source("shown") != picture and visit.value("tick") == "0", "the ticks do not scrub")
    visit.stroke(127, (33, 10), (36, 50))                                     # words begin where the lower half does
    visit.until(lambda: visit.value("before").startswith("✗ gist: "), "an erased band is not noticed")
    erased = visit.cells()
    assert len(np.unique(erased)) == 3
    assert {tuple(cell) for cell in np.argwhere(erased == np.median(np.unique(erased)))} >= {(33, 10), (36, 50)}
    for kind, start, end in ((1, (3, 20), (3, 28)), (2, (20, 5), (20, 60))):  # flips, erasures
        visit.choose(kind)
        visit.write("Hi Tom")
        written = visit.cells()
        visit.stroke(0 if kind == 1 else 127, start, end)
        visit.until(lambda: (visit.cells() != written).any() and visit.value("before") == "✓ Hi Tom",
                    "a scratch is not repaired")


def use_gist(visit):
    visit.tab("Gist", "gist-share")
    visit.type("gist-text", TEXT)
    visit.click("gist-write")
    visit.until(lambda: visit.value("gist-told") == f"✓ {TEXT}", "the text is not read")
    picture = visit.source("gist-shown")
    visit.slide("gist-share", RIGHT * 5)
    visit.until(lambda: visit.value("gist-left").startswith("10% ") and visit.source("gist-shown") != picture,
                "the slider does nothing")
    assert visit.value("gist-told") == f"✓ {TEXT}" and "word for word; 31 of 31 meaning" in visit.value("gist-left")
    visit.slide("gist-share", RIGHT * 25)
    visit.until(lambda: visit.value("gist-left").startswith("60% "), "the slider does nothing")
    assert visit.value("gist-told").startswith("✗ gist: ") and "24.6 of 31" in visit.value("gist-left")
    visit.slide("gist-share", END)
    visit.until(lambda: visit.value("gist-left").startswith("100% "), "the slider does nothing")
    assert visit.value("gist-told").startswith("✗ nothing") and "0 of 31 meaning tiles" in visit.value("gist-left")


def use_between(visit):
    visit.tab("Between", "make")
    visit.type("first", TEXT)
    visit.type("second", "The fox was sad.")
    visit.slide("share", HOME)
    visit.until(lambda: "Make the texts between" in visit.find("body").text, "no sentence says what to do first")
    visit.click("make")
    visit.until(lambda: visit.value("between-told") == f"✓ {TEXT}", "the first text is not read")
    picture = visit.source("between-shown")
    visit.slide("share", RIGHT * 5)
    visit.until(lambda: visit.value("between-told") != f"✓ {TEXT}" and visit.source("between-shown") != picture,
                "the slider does nothing")
    assert visit.value("between-told").startswith("✓ ") and visit.value("share") == "0.5"
    visit.slide("share", END)
    visit.until(lambda: visit.value("between-told") == "✓ The fox was sad.", "the second text is not read")


def use_memory(visit, player):
    markup = "<b>Lily</b> ran <img src=x onerror=alert(1)> home."
    visit.tab("Memory", "ask")
    assert visit.value("memory-state") == "Nothing is remembered yet."
    visit.click("ask")
    visit.until(lambda: "Nothing is remembered yet." in visit.find("body").text, "an empty memory is not named")
    visit.browser.execute_script(
        "const box = document.querySelector('#story textarea'); box.value = 'half \\ud800';"
        "box.dispatchEvent(new Event('input', {bubbles: true}))")
    visit.click("remember")
    # Quotes as they are: what a sentence says is escaped once.
    visit.until(lambda: "not valid Unicode: 'utf-8' codec" in visit.find("body").text, "half a character is not named")
    visit.type("story", markup)
    visit.click("remember")
    visit.until(lambda: visit.find("#memory").text.strip() == markup, "the story is not shown as it is")
    visit.click("ten")
    visit.until(lambda: "11 stories" in visit.value("memory-state"), "the examples are not remembered")
    assert len(visit.browser.find_elements("css selector", "#memory li")) == 11
    visit.type("cue", "Lily ran <img src=x")
    visit.click("ask")
    visit.until(lambda: visit.value("memory-told") == f"✓ {markup}", "the story is not recalled")
    rows = visit.browser.find_elements("css selector", "#memory li")
    assert len(rows) == 5 and re.fullmatch(r"0\.\d\d\n" + re.escape(markup), rows[0].text.strip())
    bars = [bar.size["width"] for bar in visit.browser.find_elements("css selector", "#memory .bar")]
    assert bars == sorted(bars, reverse=True) and bars[0] > bars[-1] > 0
    assert not visit.browser.find_elements("css selector", "#memory b, #memory img")
    assert visit.find("#memory-shown img").is_displayed()
    # By the frame of the first tab: that of one of the examples, damaged.
    visit.tab("Frame", "write")
    visit.choose(0)
    kept = list(player.remember(None, examples()))[3]
    visit.type("text", kept)
    visit.click("write")
    visit.until(lambda: visit.value("after") == f"✓ {kept}", "the example is not read back")
    visit.stroke(127, (33, 5), (50, 60))
    visit.until(lambda: visit.value("before").startswith("✗ gist: "), "an erased band is not noticed")
    visit.tab("Memory", "recall")
    visit.click("recall")
    visit.until(lambda: visit.value("memory-told") == f"✓ {kept}", "the damaged frame recalls something else")


HOME, END, RIGHT = "\ue011", "\ue010", "\ue014"                                # as WebDriver writes these keys


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")          # its use of pandas
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_in_a_browser(browser, address, player, width):
    visit = Visit(browser, address)
    visit.open(width)
    use_frame(visit)
    use_gist(visit)
    use_between(visit)
    use_memory(visit, player)
    visit.check()
