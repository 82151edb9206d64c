"""Training that one can watch: what train.py writes for it, the reader, the picture, the page."""

import json
import os
import time
from base64 import b64encode

import numpy as np
import pytest
from conftest import free_port, wait_until

import train
from models import WheelerTextAutoencoder
from wheeler.frame.code import FrameCode
from wheeler.training import scores, watch
from wheeler.training.run_folder import MetricsRows, UsageError, read_metrics

EVIL = "<img src=x onerror=\"document.title='owned'\">"


def story(text="Tom ran.", side=16, **changed):
    """An entry as `stories_in_frames` writes it, of a frame with dark cells in its first row."""
    frame = np.ones((side, side))
    frame[0] = -1
    return {"text": text, "side": side, "frame": b64encode(np.packbits(frame < 0).tobytes()).decode(), "read": text,
            "kind": "words", "exact": True, "bits": 20.5, "holds": 70.0} | changed


def training(step, loss=2.0):
    return {"step": step, "loss": loss}


def evaluation(step, *stories, **more):
    return {"step": step, "validation_loss": 9 - step / 100, "bits_per_token": 4.0, "bits_per_token_given_meaning": 3.0,
            "grid/exact_match": 1.0, "stories": list(stories)} | more


def write(folder, *rows, mode="w"):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metrics.jsonl", mode, encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def steps(rows):
    return [row["step"] for row in rows]


# ---- what train.py writes -------------------------------------------------------------------------------------------


def test_every_evaluation_writes_three_stories_as_frames(run):
    assert run("--eval_every 2") == 0
    shown = [row["stories"] for row in read_metrics("run") if "validation_loss" in row]
    texts = [[entry["text"] for entry in stories] for stories in shown]
    assert len(shown) == 3 and len({*texts[0]}) == 3 and texts[0] == texts[1] == texts[2]
    model = WheelerTextAutoencoder.load_from_checkpoint("run/last.pt")
    code = FrameCode(model)
    frames = [one.frame for one in code.write_texts(texts[0])]
    for entry, told, text, frame in zip(shown[-1], watch.stories_of(evaluation(4, *shown[-1])), texts[0], frames,
                                        strict=True):
        assert told.frame.shape == (16, 16) and (told.frame == frame).all()
        (reading,) = code.read(told.frame[None])
        assert (reading.text, reading.kind) == (entry["read"], entry["kind"])
        assert entry["exact"] == (entry["read"] == text) and entry["bits"] > 16
    assert [entry["exact"] for entry in shown[-1]] == [entry["bits"] <= entry["holds"] for entry in shown[-1]]
    assert len(json.dumps(shown[-1])) < 2000


def test_a_run_that_is_resumed_keeps_its_stories_whatever_it_reads(run):
    assert run("--eval_samples 4") == 0
    assert train.main("--resume run/last.pt --max_steps 6 --eval_samples 2".split()) == 0
    shown = [row["stories"] for row in read_metrics("run") if "stories" in row]
    assert len(shown) == 3 and len({tuple(entry["text"] for entry in stories) for stories in shown}) == 1


def test_a_grid_that_can_be_no_frame_writes_none(run):
    assert run("--grid_size 20 --max_steps 1") == 0
    assert not [row for row in read_metrics("run") if "stories" in row]


@pytest.mark.parametrize("lengths, chosen", [([5], [0]), ([9, 2], [1, 0]), ([9, 2, 5], [1, 2, 0]),
                                             (range(100), [10, 50, 89]), ([3] * 50, [5, 24, 44])])
def test_the_stories_are_a_short_a_middle_and_a_long_one(lengths, chosen):
    assert scores.fixed_stories(lengths) == chosen


def test_a_story_without_room_is_a_gist_and_its_bits_are_those_of_its_words(small_model):
    text = " ".join(f"{word} the quick fox" for word in "ran sat saw hid".split())
    row = scores.Row(small_model.tokenizer(text)["input_ids"], text)
    narrow = WheelerTextAutoencoder(small_model.config.__class__(**vars(small_model.config) | {
        "grid_size": 16, "patch_size": 2, "d_model": 64, "num_heads": 1}), small_model.tokenizer)
    (entry,) = scores.stories_in_frames(narrow, [row])
    assert entry["bits"] > entry["holds"] and entry["kind"] != "words" and entry["exact"] is False


# ---- the reader -----------------------------------------------------------------------------------------------------


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    parsed, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda line: parsed.append(line) or loads(line))
    write(tmp_path, *(training(i) for i in range(100)))
    rows = MetricsRows(tmp_path / "metrics.jsonl")
    assert rows.update() and len(rows.rows) == 100
    parsed.clear()
    assert not rows.update() and len([line for line in parsed if line]) == 0
    write(tmp_path, training(100), mode="a")
    assert rows.update() and steps(rows.rows)[-2:] == [99, 100] and len([line for line in parsed if line]) == 1


def test_a_half_written_line_waits_for_its_rest(tmp_path):
    line = json.dumps(evaluation(1, story("Zoë 🐉"))).encode()
    rows = MetricsRows(tmp_path / "metrics.jsonl")
    for end in range(0, len(line), 7):
        (tmp_path / "metrics.jsonl").write_bytes(line[:end])
        assert not rows.update() and not rows.rows and not rows.strange
    (tmp_path / "metrics.jsonl").write_bytes(line)                            # whole, but for its end of line
    assert rows.update() and not rows.update() and rows.rows == [json.loads(line)]
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b"\n" + line.replace(b'"step": 1', b'"step": 2')[:-3])     # a crash cuts it off
        file.write(b'\n{"step": 3, "loss": 1}\n')
    assert rows.update() and steps(rows.rows) == [1, 3] and rows.strange == 1


def test_a_resumed_run_drops_rows_and_a_new_one_starts_anew(tmp_path):
    write(tmp_path / "run", *(training(i) for i in range(5)))
    rows = MetricsRows(tmp_path / "run/metrics.jsonl")
    rows.update()
    write(tmp_path / "run", training(2, 5.0), mode="a")
    assert rows.update() and [row["loss"] for row in rows.rows] == [2, 2, 5]
    os.replace(tmp_path / "run/metrics.jsonl", tmp_path / "old")
    with pytest.raises(FileNotFoundError):
        rows.update()
    write(tmp_path / "run", *(training(i, 7.0) for i in range(9)))            # longer than the old one
    assert rows.update() and [row["loss"] for row in rows.rows] == [7] * 9
    write(tmp_path / "run", training(0, 8.0))                                 # the same file, cut and begun anew
    assert rows.update() and [row["loss"] for row in rows.rows] == [8]
    write(tmp_path / "run", *(training(i, 9.0) for i in range(9)))            # and now longer
    assert rows.update() and [row["loss"] for row in rows.rows] == [9] * 9


def test_what_is_no_row_is_left_out(tmp_path):
    lines = [b'{"step": "5"}', b"[1]", b"7", b"null", b"\xff\xfe", b"[" * 100_000, b'{"step": -1}', b'{"loss": 1}',
             b'{"step": 1e3}', b'{"step": ' + b"9" * 5000 + b"}", b'{"step": true}', b"", b'{"step": 4, "loss": NaN}']
    (tmp_path / "metrics.jsonl").write_bytes(b"\r\n".join(lines) + b"\n")
    rows = MetricsRows(tmp_path / "metrics.jsonl")
    assert rows.update() and steps(rows.rows) == [4] and rows.strange == 11
    assert len(watch.curve(rows.rows, "loss")[0]) == 0


def test_a_hundred_thousand_rows_are_thinned_and_read_in_a_moment(tmp_path):
    rng = np.random.default_rng(0)
    losses = 3 + rng.normal(size=100_000)
    write(tmp_path / "run", *(training(i, loss) for i, loss in enumerate(losses)))
    watcher = watch.Watcher([tmp_path])
    x, y = watch.curve(watcher.runs["run"].rows, "loss")
    assert len(x) == len(y) == watch.MOST_POINTS and x[-1] == 99_999 and y[-1] == losses[-1]
    assert (np.diff(x) > 0).all() and abs(y.mean() - losses.mean()) < 0.01 and y[:-1].std() < 0.2
    assert y[0] == pytest.approx(losses[:200].mean())
    before = time.monotonic()
    write(tmp_path / "run", training(100_000), mode="a")
    assert watcher.update() and time.monotonic() - before < 0.1


def test_curves_take_finite_numbers_alone():
    values = [1.5, None, "3", True, float("nan"), float("inf"), 10**400, [1], 2]
    x, y = watch.curve([{"step": i, "a": value} for i, value in enumerate(values)] + [{"step": 99}], "a")
    assert x.tolist() == [0, 8] and y.tolist() == [1.5, 2]


# ---- the runs of a folder -------------------------------------------------------------------------------------------


def test_runs_join_when_they_are_there(tmp_path):
    watcher = watch.Watcher([tmp_path])
    assert watcher.runs == {} and watcher.state() == f"no run yet in {tmp_path}" and not watcher.update()
    write(tmp_path / "a")                                                     # a run that has begun, no row yet
    assert watcher.update() and watcher.state() == "a: no row yet"
    write(tmp_path / "a", training(3))
    write(tmp_path / "b" / "earlier-1", training(1))
    write(tmp_path / "earlier-2", training(1))
    assert watcher.update() and [*watcher.runs] == ["a"]
    write(tmp_path / "b", evaluation(0, story()))
    assert watcher.update() and watcher.state() == "a: step 3\nb: step 0"
    version = watcher.version
    assert not watcher.update() and watcher.version == version
    (tmp_path / "a/metrics.jsonl").unlink()                                   # as when it is moved aside
    assert not watcher.update() and watcher.state() == "a: step 3\nb: step 0"
    (tmp_path / "a").rmdir()
    assert watcher.update() and watcher.state() == "a: step 3, its folder is gone\nb: step 0" and not watcher.update()
    write(tmp_path / "a", training(4))
    assert watcher.update() and watcher.state() == "a: step 4\nb: step 0"


def test_a_run_folder_and_several_folders_with_the_same_names(tmp_path):
    for name in ("x/run", "y/run", "x/other"):
        write(tmp_path / name, training(len(name)))
    assert [*watch.Watcher([tmp_path / "x/run"]).runs] == ["run"]
    both = watch.Watcher([tmp_path / "x", tmp_path / "y/run", tmp_path / "x/run", tmp_path / "x"])
    assert {name: run.path.parent for name, run in both.runs.items()} == {
        "other": tmp_path / "x/other", "run": tmp_path / "x/run", "run (2)": tmp_path / "y/run"}


def test_many_runs_are_counted(tmp_path):
    for i in range(11):
        write(tmp_path / f"{i:02}", training(i))
    watcher = watch.Watcher([tmp_path])
    assert [*watcher.runs] == [f"{i:02}" for i in range(8)] and "3 more runs are not shown" in watcher.state()


def test_stories_look_back(tmp_path):
    write(tmp_path / "a", *(evaluation(i, story(f"{i}")) for i in (0, 10, 20)), training(21))
    write(tmp_path / "b", *(evaluation(i, story(f"{i}")) for i in (5, 10, 15)))
    watcher = watch.Watcher([tmp_path])
    read = lambda step: {name: (at, told[0].read) for name, (at, told) in watcher.stories(step).items()}
    assert watcher.evaluations() == [0, 5, 10, 15, 20]
    assert read(None) == {"a": (20, "20"), "b": (15, "15")} and read(10) == {"a": (10, "10"), "b": (10, "10")}
    assert read(4) == {"a": (0, "0")}


@pytest.mark.parametrize("changed", [{"frame": "????"}, {"frame": "AAAA"}, {"frame": None}, {"side": 8}, {"side": "16"},
                                     {"side": 1 << 40}, {"kind": "?"}, {"kind": []}, {"bits": None}, {"text": 3},
                                     {"read": ["x"]}])
def test_damaged_stories_are_left_out(changed):
    assert len(watch.stories_of(evaluation(1, story() | changed, story("b")))) == 1
    for strange in (None, 3, "x", {}, [3], [None]):
        assert watch.stories_of({"step": 1, "stories": strange}) == []


def test_a_story_is_shown_as_it_was_written(tmp_path):
    (told,) = watch.stories_of(evaluation(1, story("Tom\x1b[2J\ud800 " + "x" * 9999, side=24)))
    assert told.frame.shape == (24, 24) and (told.frame[0] == -1).all() and (told.frame[1:] == 1).all()
    assert (told.verdict, told.room) == ("exact", "20 of 70 bits") and told.read.startswith("Tom\\x1b[2J\\ud800 ")
    assert len(told.text) < 4100 and told.text.encode()
    for changed, verdict in (({"exact": False}, "all tokens, other characters"), ({"kind": "gist"}, "gist"),
                             ({"kind": "nothing"}, "nothing to be read")):
        (told,) = watch.stories_of(evaluation(1, story(**changed)))
        assert told.verdict == verdict


# ---- wrong use ------------------------------------------------------------------------------------------------------


def refused(words, capsys):
    """The one line on stderr of app.py, whose exit code must be 2."""
    app = pytest.importorskip("app")
    try:
        code = app.main(["--port", str(free_port()), *words])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and "Traceback" not in error
    return error


def test_wrong_use_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(WheelerTextAutoencoder, "load_from_checkpoint", None)
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/metrics.jsonl").write_text("{broken\n[]\n")
    here = str(tmp_path)
    assert "nowhere: there is no such folder" in refused(["--watch", f"{here}/nowhere"], capsys)
    assert "file: it is no folder" in refused(["--watch", here, f"{here}/file"], capsys)
    assert "metrics.jsonl: no line of it is one that train.py" in refused(["--watch", f"{here}/broken"], capsys)
    assert "two pages" in refused(["--watch", here, "--page"], capsys)
    assert "expected at least one argument" in refused(["--watch"], capsys)
    assert "--watch '' names no folder" in refused(["--watch", here, ""], capsys)
    assert f"--watch {here} loads no model: leave --checkpoint a.pt out" in refused(
        ["--watch", here, "--checkpoint", "a.pt"], capsys)


def test_a_broken_run_does_not_stop_the_watch_of_others(tmp_path, capsys):
    write(tmp_path / "good", training(7))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/metrics.jsonl").write_bytes(np.random.default_rng(0).bytes(5000))
    watcher = watch.Watcher([tmp_path])
    first, second = watcher.state().splitlines()
    assert first == "good: step 7" and second.startswith(f"{tmp_path}/bad/metrics.jsonl: no line of it")
    (tmp_path / "good/metrics.jsonl").unlink()
    error = refused(["--watch", str(tmp_path)], capsys)
    assert error.startswith(f"app.py: --watch {tmp_path}/bad/metrics.jsonl: no line of it")
    with pytest.raises(UsageError, match=f"^{tmp_path}/bad/metrics.jsonl"):
        watch.Watcher([tmp_path])


@pytest.mark.parametrize("given, step, said", [
    ([["a", "b"]], None, r"each on its own, watch\(a, b\): \['a', 'b'\] is none"), ([None], None, "None is none"),
    ([], None, "none was given"), (["."], -3, "from 0 on, not -3"), (["."], "3", "from 0 on, not '3'")])
def test_wrong_use_in_a_notebook_says_what_to_pass(given, step, said):
    with pytest.raises(ValueError, match=said):
        watch.watch(*given, step=step)


def test_files_that_may_not_be_read_are_named(tmp_path, capsys, monkeypatch):
    write(tmp_path / "run", training(1))
    update = MetricsRows.update

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self.path))

    monkeypatch.setattr(MetricsRows, "update", denied)                        # root may read everything
    assert "metrics.jsonl: Permission denied" in refused(["--watch", str(tmp_path)], capsys)
    monkeypatch.setattr(MetricsRows, "update", update)
    watcher = watch.Watcher([tmp_path])
    monkeypatch.setattr(MetricsRows, "update", denied)                        # while it is watched: said, no end
    assert watcher.update() and "metrics.jsonl: Permission denied" in watcher.state() and not watcher.update()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read_are_named(tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0)
    assert "closed: Permission denied" in refused(["--watch", str(tmp_path / "closed")], capsys)


# ---- the picture of a notebook, the page ----------------------------------------------------------------------------


def test_the_picture_shows_runs_and_goes_on_until_it_is_over(tmp_path, monkeypatch):
    ipython = pytest.importorskip("IPython.display")
    shown, drawn, draw = [], [], watch.draw

    class Handle:
        update = shown.append

    monkeypatch.setattr(ipython, "display", lambda image, display_id: shown.append(image) or Handle)
    monkeypatch.setattr(watch, "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    watch.watch(tmp_path)
    assert len(shown) == 1 and "no run yet" in drawn[0].texts[0].get_text()

    def until():
        write(tmp_path / "$a_$", *(evaluation(i, story(f"{EVIL} $x^$ \u4e2d")) for i in range(len(shown))))
        return len(shown) > 2

    watch.watch(tmp_path, until=until, every=0.01)
    assert len(shown) == 4 and all(image.data.startswith(b"\x89PNG") for image in shown)
    said = [text.get_text() for text in drawn[-1].findobj(lambda artist: hasattr(artist, "get_text"))]
    assert "$a_$, step 2" in said and any(EVIL.split()[1] in text for text in said)


def test_the_page_loads_no_model(tmp_path, monkeypatch):
    app, gr = pytest.importorskip("app"), pytest.importorskip("gradio")
    pages = []
    monkeypatch.setattr(WheelerTextAutoencoder, "load_from_checkpoint", None)
    monkeypatch.setattr(gr.Blocks, "launch", lambda page, **flags: pages.append((page, flags)))
    port = free_port()
    assert app.main(["--watch", str(tmp_path), "--port", str(port)]) == 0
    ((page, flags),) = pages
    assert flags["server_name"] == "127.0.0.1" and flags["server_port"] == port and flags["share"] is False
    assert all(event.api_visibility == "private" for event in page.fns.values()) and not page.analytics_enabled


def test_a_second_look_that_finds_nothing_new_sends_nothing(tmp_path):
    gr, runs = pytest.importorskip("gradio"), pytest.importorskip("wheeler.app.runs")
    write(tmp_path / "a", training(1), evaluation(1, story(EVIL)), evaluation(2, story("b")))
    page = runs.page([tmp_path])
    refresh, look = (next(event.fn for event in page.fns.values() if event.fn.__name__ == name)
                     for name in ("refresh", "look"))
    version, state, *plots, slider, pictures, rows = refresh(-1, None)
    assert state == "a: step 2" and slider["value"] == 1 and "step 2, the last" in slider["label"]
    assert rows == [["1", "a", "2", "exact", "20 of 70 bits", "b", "b"]]
    ((picture, caption),) = pictures
    assert picture.size == (512, 512) and caption == "a: exact"
    assert all(value == gr.skip() for value in refresh(version, None)) and len(plots) == 4
    at, slider, _, rows = look(0)
    assert at == 1 and slider["label"] == "The stories at step 1" and rows[0][5] == EVIL
    write(tmp_path / "a", evaluation(3, story("c")), mode="a")
    assert refresh(version, 1)[6]["value"] == 0 and refresh(version, None)[6]["value"] == 2                # it follows
    assert look(2)[0] is None


@pytest.mark.parametrize("given, taken", [(3, 3), (2.5, 2.5), (-3, 1), (999, 6), (float("inf"), 6), (float("nan"), 1),
                                          (None, 1), ("", 1), ("x", 1), ([4], 1)])
def test_a_slider_takes_whatever_its_box_holds(given, taken):
    widgets = pytest.importorskip("wheeler.app.widgets")
    slider = widgets.Slider(1, 6, 2, step=1)
    assert slider.preprocess(given) == taken and slider.get_block_name() == "slider"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")          # its use of pandas
def test_the_page_in_a_browser(browser, tmp_path, capfd):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    app, runs = pytest.importorskip("app"), pytest.importorskip("wheeler.app.runs")
    evil = EVIL.replace("/", "")
    write(tmp_path / evil, training(1), evaluation(1, story(EVIL)), evaluation(20, story(f"{EVIL} twenty")))
    page = runs.page([tmp_path], every=0.5)
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **app.LAUNCH)
    find = lambda selector: browser.find_element(By.CSS_SELECTOR, selector)
    state = lambda: find("#state textarea, #state input").get_attribute("value")

    def until(condition, what):
        wait_until(condition, lambda: f"{what}; the page says {state()!r}")

    browser.get_log("browser"), browser.get_log("performance")                # of pages before
    try:
        browser.get(url)
        until(lambda: f"{evil}: step 20" in state() and "twenty" in find("#read").text, "the first run is not shown")
        write(tmp_path / "second", training(1), evaluation(5, story("The second one.")))
        until(lambda: "second: step 5" in state() and "The second one." in find("#read").text,
              "the second run does not join")
        until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#frames .grid-container img")) == 2, "no two frames")
        until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#plot-0 svg, #plot-0 canvas")) > 0, "no curves")
        write(tmp_path / "second", evaluation(30, story("A later one.")), mode="a")
        until(lambda: "second: step 30" in state() and "A later one." in find("#read").text, "a row does not arrive")
        slider = find("#back input[type=range]")
        slider.send_keys(Keys.HOME)
        until(lambda: "twenty" not in find("#read").text and "onerror" in find("#read").text, "it does not look back")
        box, here = find("#back input[type=number]"), lambda: find("#back label").text
        for typed, value, step in (("-3", "0", "step 1"), ("999", "3", "step 30, the last"), ("1", "1", "step 5"),
                                   ("", "0", "step 1")):
            box.send_keys(Keys.CONTROL, "a")
            box.send_keys(typed or Keys.DELETE)
            until(lambda: step in here(), f"{typed!r} in the box is not {step}")      # noqa: B023
            box.send_keys(Keys.TAB)
            until(lambda: box.get_attribute("value") == slider.get_attribute("value") == value, "two minds")  # noqa: B023
        assert "Traceback" not in capfd.readouterr().err
        for picture in browser.find_elements(By.CSS_SELECTOR, "#frames .grid-wrap"):
            assert picture.get_property("scrollHeight") <= picture.get_property("clientHeight")
        assert browser.title != "owned" and not browser.find_elements(By.CSS_SELECTOR, "img[src='x']")
        sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
        assert [u for u in urls if not u.startswith((url.rstrip("/"), "data:", "blob:"))] == []
        assert [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    finally:
        page.close()


def test_plot_draws_four_curves(tmp_path):
    write(tmp_path / "a", training(1), evaluation(1, story()))
    watch.plot([str(tmp_path / "a")], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    figure = watch.new_figure(9, 3)
    watch.draw_curves(figure.subplots(1, 4), {"a": read_metrics(tmp_path / "a")})
    assert [[line.get_ydata().tolist() for line in axis.lines] for axis in figure.axes] == [
        [[2.0]], [[8.99]], [[4.0], [3.0]], [[1.0]]]
    with pytest.raises(UsageError, match="no rows yet"):
        write(tmp_path / "b")
        watch.plot([str(tmp_path / "b")], tmp_path / "curves.png")
