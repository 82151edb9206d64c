"""app.py: what the page does, without a page, and the page itself in a real browser where there is one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

gr = pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

import app  # noqa: E402

TEXT = "Tom had a red ball."


@pytest.fixture(scope="module")
def player(small_model):
    return app.Player(small_model)


def test_cells_are_the_frame_and_nothing_else_is_taken():
    frame = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.abs(app.from_cells(app.to_cells(frame), 8) - frame).max() <= 1 / app.LEVELS
    signs = np.sign(frame)
    assert (app.from_cells(app.to_cells(signs), 8) == signs).all()
    assert np.abs(app.from_cells("ff" * 64, 8)).max() == 1                    # above the highest level
    for bad in ("", "zz" * 64, "00" * 63, None, 3, "00" * 65):
        with pytest.raises(ValueError, match="no frame"):
            app.from_cells(bad, 8)


def test_write_disturb_collapse_read(player, small_model):
    cells, note = player.write(TEXT, redundant=False)
    assert (app.from_cells(cells, 64) == small_model.encode_frame(TEXT)[0].numpy()).all()
    assert note == "11 tokens, 73 of about 1257 bits, 31 meaning tiles"
    history, note, readings = player.collapse(cells, noise=0.9)
    assert [(r.text, r.exact) for r in readings] == [(TEXT, True)] * 2 and note.startswith("CONVERGED")
    assert history.dtype == np.uint8 and history.shape[1:] == (64, 64) and len(history) > 10
    assert not (np.asarray(player.tick(history, 0)) == np.asarray(player.tick(history, 99))).all()
    assert player.tick(history, -3).size == (512, 512)


def test_without_its_words_a_frame_gives_a_gist(player, small_model):
    frame = app.from_cells(player.write(TEXT, redundant=False)[0], 64)
    frame[32:] = 0
    _, _, (before, after) = player.collapse(app.to_cells(frame), noise=0)
    assert player.said(before, TEXT) == "✗ gist: " + before.text and player.said(after, TEXT).startswith("✗ gist: ")
    assert not before.exact and not after.exact and before.text == small_model.read_frame(frame)[0].text != ""
    _, _, (before, _) = player.collapse(app.to_cells(np.ones((64, 64))), noise=0.5)
    assert (before.text, before.exact) == ("", False)                         # a blank frame has no gist
    assert player.said(before, TEXT) == "✗ nothing can be read, neither words nor meaning"


def test_texts_between_two(player, small_model):
    rows = player.between(TEXT, "The fox was sad.")
    assert [share for share, _ in rows] == [0, 0.25, 0.5, 0.75, 1]
    assert [text for _, text in rows] == small_model.interpolate(TEXT, "The fox was sad.")
    with pytest.raises(ValueError, match="not valid Unicode"):
        player.between(TEXT, "half a character: \ud800")


def test_a_painted_block_breaks_the_plain_frame_and_not_the_redundant_one(player):
    for redundant in (False, True):
        cells, _ = player.write("Hi Tom", redundant)
        frame = app.from_cells(cells, 64)
        frame[33:43, 20:30] = -1                                          # where the short text stands
        _, _, readings = player.collapse(app.to_cells(frame), noise=0)
        assert [reading.exact for reading in readings] == [redundant] * 2
        assert (readings[0].text == "Hi Tom") == redundant


def test_memory_recalls_by_a_damaged_frame(player, monkeypatch):
    memory, frames = None, {}
    for text in (TEXT, "Lily ran home.", "The fox was sad."):
        frames[text], _ = player.write(text, False)
        memory = player.remember(memory, text, frames[text])
    damaged = app.from_cells(frames["Lily ran home."], 64)
    damaged[:32] = 0
    rows, cells = player.recall(memory, app.to_cells(damaged), noise=0.5)
    assert rows[0][1] == "Lily ran home." and rows[0][0] > rows[1][0] + 0.2 and len(rows) == 3
    assert cells == frames["Lily ran home."]
    monkeypatch.setattr(app, "MEMORIES", 3)
    with pytest.raises(ValueError, match="3 texts are all"):
        player.remember(memory, "one more", frames[TEXT])
    assert len(player.remember(memory, TEXT, frames[TEXT])) == 3              # a known text is replaced
    with pytest.raises(ValueError, match="Nothing is remembered"):
        player.recall(None, frames[TEXT], 0)


def test_a_text_that_does_not_fit_says_so_and_shows_its_gist(player):
    text = "the quick brown fox " * 5
    cells, note = player.write(text, redundant=True)
    found = re.fullmatch(r"\d+ tokens, they cost (\d+) bits, a redundant frame holds about 472 bits: its gist is in 63 "
                         "meaning tiles, its words are not", note)
    with pytest.warns(UserWarning, match=f"costs {found[1]} bits under this model, a frame of 64 x 64 holds about 472"):
        player.model.encode_frame(text, redundant=True)
    assert int(found[1]) > 472
    _, _, readings = player.collapse(cells, noise=0.5)
    assert [reading.exact for reading in readings] == [False] * 2 and readings[0].text not in ("", text)
    with pytest.raises(ValueError, match="not valid Unicode"):
        player.write("half a character: \ud800", redundant=False)
    assert player.write("x" * 10**6, redundant=False)[1].startswith("64 tokens of a text that was cut, ")


@pytest.mark.parametrize("words, message", [
    (["--port", "0"], "--port 0 must be in 1 .. 65535"), (["--checkpoint", "no.pt"], "no checkpoint at no.pt"),
    (["--port", "x"], "invalid int value"),
])
def test_bad_command_lines(words, message, capsys):
    try:
        code = app.main(words)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1


def test_the_page_answers_on_this_machine_only(small_model, monkeypatch):
    seen = {}
    monkeypatch.setattr(app.WheelerTextAutoencoder, "load_from_checkpoint", lambda path: small_model)
    monkeypatch.setattr(gr.Blocks, "launch", lambda page, **flags: seen.update(flags, page=page))
    assert app.main([]) == 0
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
    assert httpx.Client()._mounts and app.main([]) == 0
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
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, app.__file__, "--checkpoint", str(tmp_path / "best.pt"), "--port", str(port)]
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:4] != "GRAD"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                          env=clean | proxy | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONUNBUFFERED": "1"}) as process:
        while line := process.stdout.readline():
            if "Running on local URL" in line:
                break
        assert line, process.stderr.read()
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")          # its use of pandas
def test_the_page_in_a_browser(browser, address):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    find = lambda selector: browser.find_element(By.CSS_SELECTOR, selector)
    value = lambda name: find(f"#{name} textarea, #{name} input").get_attribute("value")
    cells = lambda: browser.execute_script(
        "const c = document.querySelector('#canvas canvas'); return [...c.getContext('2d').getImageData(0, 0, 64, 64)"
        ".data].filter((_, i) => i % 4 == 0).join()")

    def until(condition, what):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except Exception:                                                 # the element is not there yet
                pass
            time.sleep(0.1)
        raise AssertionError(f"{what}; the page reads {value('before')!r} and {value('after')!r}")

    def stroke(level, start, end):
        """With the mouse, from cell (row, column) to cell."""
        find(f"[data-level='{level}']").click()
        canvas = find("#canvas canvas")
        (y, x), (down, right) = start, (end[0] - start[0], end[1] - start[1])
        cell = canvas.size["width"] / 64
        ActionChains(browser, duration=20).move_to_element_with_offset(
            canvas, round((x - 31.5) * cell), round((y - 31.5) * cell)).click_and_hold().move_by_offset(
            round(right * cell), round(down * cell)).release().perform()

    def write(text):
        box = find("#text textarea")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
        find("#write").click()
        until(lambda: value("after") == f"✓ {text}" == value("before"), f"{text!r} is not read back")

    browser.get(address)
    until(lambda: len(set(cells().split(","))) == 1 and find("#write").is_displayed(), "the page does not start")
    write(TEXT)
    first = cells()
    assert len(set(first.split(","))) == 2 and "CONVERGED" in value("state")
    last = int(value("tick"))
    assert last > 5                                                           # noise 0.5 from the start
    picture = find("#shown img").get_attribute("src")
    slider = find("#tick input[type=range]")
    slider.send_keys(Keys.HOME)
    until(lambda: find("#shown img").get_attribute("src") != picture and value("tick") == "0", "the ticks do not scrub")
    find("#remember").click()
    until(lambda: TEXT in find("#memory").text, "nothing is remembered")
    write("Lily ran home.")
    find("#remember").click()
    until(lambda: "Lily ran home." in find("#memory").text, "the second text is not remembered")
    stroke(127, (33, 10), (36, 50))                                           # words begin where the lower half does
    until(lambda: value("before").startswith("✗ gist: "), "an erased band is not noticed")
    before, after = (np.array(picture.split(","), int).reshape(64, 64) for picture in (first, cells()))
    assert len(np.unique(after)) == 3 and (after[:32] != before[:32]).any()   # another text, and the erased cells
    assert {tuple(cell) for cell in np.argwhere(after == np.median(np.unique(after)))} >= {(33, 10), (36, 50)}
    find("#recall").click()
    until(lambda: value("after") == "✓ Lily ran home.", "recall does not bring the text back")
    find("#blend").click()
    until(lambda: all(word in find("#between").text for word in ("Lily ran home.", "0.25", "0.75", app.OTHER)),
          "there is nothing between two texts")
    browser.execute_script("window.scrollTo(0, 0)")
    find("#redundant input").click()
    write("Hi Tom")
    written = cells()
    stroke(0, (3, 20), (3, 28))
    until(lambda: cells() != written and value("after") == "✓ Hi Tom", "a scratch is not repaired")
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    assert [u for u in urls if not u.startswith((address.rstrip("/"), "data:", "blob:"))] == []
    assert [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
