"""A page to play with: a text as a frame that you can paint on, disturb, collapse, read back and recall.

    python app.py                                    # then open http://127.0.0.1:7860
    python app.py --checkpoint runs/a/best.pt --port 8000
    python app.py --page                             # the static page of page/, which needs no Python behind it
    python app.py --page site                        # the same as a folder for any host of static files

Type a text and write it into a frame. Paint on the frame with the mouse, or add noise: the dynamics run at once, the
slider shows every tick, and below stands what is read from the frame before and after the collapse, the exact text or,
where the words are lost, a gist. Texts can be remembered; recall then finds the one whose frame is most like the
damaged one. Between two texts stand texts of mixed meaning. Works without a network, answers on this machine only
(--host), sends nothing anywhere.
"""

import argparse
import atexit
import os
import secrets
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager

import numpy as np
from PIL import Image

from models import WheelerTextAutoencoder
from wheeler.cli import Parser, complaint, open_console
from wheeler.frame.code import Reading, cost_of, frame_bits
from wheeler.model.inputs import encode_text
from wheeler.model.tokenizer import altered, example
from wheeler.page import build_page, server
from wheeler_cpu import WheelerMemoryCPU, add_noise, frame_image
from wheeler_store import WheelerMemory


@contextmanager
def no_proxy():
    """Inside, nothing goes through a proxy of the environment: the page asks itself, at 127.0.0.1, whether it is up,
    which no proxy can answer."""
    before = {name: os.environ.pop(name, None) for name in ("no_proxy", "NO_PROXY")}
    os.environ["no_proxy"] = "*"                                              # a list of hosts would still load SOCKS
    try:
        yield
    finally:
        os.environ.pop("no_proxy")
        os.environ.update((name, value) for name, value in before.items() if value is not None)


# Of this page alone, and removed at its end: Gradio's own, /tmp/gradio, belongs to the first user of a machine.
TEMPORARY = os.path.join(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir(), f"wheeler-{secrets.token_hex(8)}")
atexit.register(shutil.rmtree, TEMPORARY, ignore_errors=True)


def load_gradio():
    """The module gradio, which reads the environment when it is imported."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": TEMPORARY}
    with no_proxy():
        import gradio

    return gradio


gr = load_gradio()

TEXT_CHARACTERS, MEMORIES, MAX_TICKS, LEVELS = 4000, 100, 200, 254            # limits; cells are sent as 0 .. 254
STORY = ("Once upon a time there was a little rabbit. He lived in a big garden with his mom. One day he found a red "
         "ball under a tree.")
OTHER = "The dog ran to the park."

# The system's fonts: those that Gradio brings mix two faces in bold words. No tunnel, no uploads to speak of.
LAUNCH = dict(share=False, ssr_mode=False, footer_links=[], max_file_size="1mb",
              theme=gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")))

# The frame that the mouse paints on: a canvas of a pixel a cell. Its value is two hexadecimal digits a cell.
CANVAS = """
<canvas width="${side}" height="${side}" aria-label="frame: paint with the mouse"></canvas>
<div class="tools">
  <button data-level="0">dark, -1</button> <button data-level="254">light, +1</button>
  <button data-level="127">erase, 0</button>
  <label>brush <input type="range" min="0" max="6" value="1"></label>
</div>"""
CANVAS_CSS = """
canvas { width: 100%; max-width: 420px; image-rendering: pixelated; touch-action: none; cursor: crosshair;
         border: 1px solid #888; display: block; }
.tools { display: flex; gap: 0.5em; flex-wrap: wrap; align-items: center; margin-top: 0.4em; }
.tools button { border: 1px solid #888; border-radius: 4px; padding: 0.1em 0.6em; font-size: 0.85em;
                font-weight: normal; }
.tools button.chosen { outline: 3px solid #f4be68; }"""
CANVAS_JS = """
const side = props.side, palette = props.palette;
let cells = new Uint8Array(side * side).fill(254), level = 0, last = null;
function draw() {
  const pen = element.querySelector('canvas').getContext('2d'), image = pen.createImageData(side, side);
  cells.forEach((c, i) => image.data.set([...palette[c], 255], 4 * i));
  pen.putImageData(image, 0, 0);
  element.querySelectorAll('[data-level]').forEach(b => b.classList.toggle('chosen', +b.dataset.level === level));
}
function load() {
  const value = props.value || '';
  if (value.length === 2 * side * side) cells = Uint8Array.from(value.match(/../g), pair => parseInt(pair, 16));
  draw();
}
function dab(x, y) {
  const r = +element.querySelector('input').value;
  for (let i = Math.max(0, y - r); i <= Math.min(side - 1, y + r); i++)
    for (let j = Math.max(0, x - r); j <= Math.min(side - 1, x + r); j++) cells[i * side + j] = level;
}
function paint(event) {
  const box = element.querySelector('canvas').getBoundingClientRect();
  const at = [Math.floor((event.clientX - box.left) / box.width * side),
              Math.floor((event.clientY - box.top) / box.height * side)];
  const from = last || at, steps = Math.max(1, Math.abs(at[0] - from[0]), Math.abs(at[1] - from[1]));
  for (let s = 0; s <= steps; s++)
    dab(Math.round(from[0] + (at[0] - from[0]) * s / steps), Math.round(from[1] + (at[1] - from[1]) * s / steps));
  last = at;
  draw();
}
element.addEventListener('pointerdown', event => {
  if (event.target.tagName !== 'CANVAS') return;
  event.target.setPointerCapture(event.pointerId);
  last = null;
  paint(event);
});
element.addEventListener('pointermove', event => { if (last) paint(event); });
element.addEventListener('pointerup', () => {
  if (!last) return;
  last = null;
  props.value = Array.from(cells, c => c.toString(16).padStart(2, '0')).join('');
  trigger('input');
});
element.addEventListener('click', event => {
  if (event.target.dataset.level === undefined) return;
  level = +event.target.dataset.level;
  draw();
});
watch('value', load);
load();
"""


def to_cells(frame: np.ndarray) -> str:
    """Frame (H, W) in [-1, 1] -> two hexadecimal digits a cell, "00" for -1 to "fe" for +1."""
    return np.rint((frame + 1) * (LEVELS / 2)).astype(np.uint8).tobytes().hex()


def from_cells(cells: str, side: int) -> np.ndarray:
    """The frame (side, side) float32 of `to_cells`; ValueError for anything else."""
    try:
        values = np.frombuffer(bytes.fromhex(cells if len(cells) == 2 * side * side else ""), np.uint8)
        values = values.reshape(side, side)
    except (TypeError, ValueError):
        raise ValueError("that is no frame") from None
    return np.minimum(values / (LEVELS / 2) - 1, 1).astype(np.float32)


class Player:
    """What the page does, for one model."""

    def __init__(self, model: WheelerTextAutoencoder):
        self.model, self.code = model, model.frame_code()
        self.side = model.config.grid_size

    def picture(self, frame: np.ndarray) -> Image.Image:
        return frame_image(frame, scale=max(1, 512 // self.side)).convert("RGB")

    def write(self, text: str, redundant: bool) -> tuple[str, str]:
        """A text -> cells of its frame, which holds its gist alone where the words do not fit, and what there is to
        say."""
        text, tokenizer = text[:TEXT_CHARACTERS], self.model.tokenizer
        ids, kept = encode_text(text, tokenizer, self.model.config)
        (one,) = self.code.write([ids], redundant)
        holds = f"about {frame_bits(self.side, self.side, redundant=redundant):.0f} bits"
        if one.fits:
            note = f"{one.cost:.0f} of {holds}, {len(one.tiles)} meaning tiles"
        else:
            cost = cost_of(self.code.charges([ids], [one.tiles[:0]])[0])
            note = (f"they cost {cost:.0f} bits, a {'redundant ' * redundant}frame holds {holds}: its gist is in "
                    f"{len(one.tiles)} meaning tiles, its words are not")
        lost = altered(tokenizer, [kept], [ids])
        note += f"; the tokenizer does not give the text back: {example(*lost[0])}" if lost else ""
        return to_cells(one.frame), f"{len(ids)} tokens{' of a text that was cut' * (kept != text)}, {note}"

    def said(self, reading: Reading, text: str) -> str:
        """What to say of a reading of a frame that `text` was written into."""
        if reading.exact and reading.text == encode_text(text, self.model.tokenizer, self.model.config)[1]:
            return "✓ " + reading.text
        if reading.exact:                                                     # all tokens are there, not the characters
            return "✗ differs: " + reading.text
        if reading.kind == "gist":
            return "✗ gist: " + reading.text
        return "✗ nothing can be read, neither words nor meaning"

    def collapse(self, cells: str, noise: float, seed: int = 0) -> tuple[np.ndarray, str, list[Reading]]:
        """Cells, noise amplitude -> the history as levels (ticks + 1, H, W) uint8, a note, and what is read from the
        disturbed frame and from its attractor."""
        noisy = add_noise(from_cells(cells, self.side), min(max(float(noise), 0.0), 2.0), np.random.default_rng([seed]))
        run = WheelerMemoryCPU(self.side, self.side).run_dynamics(noisy, MAX_TICKS)
        frames = np.stack([noisy, run.final_frame])
        read = [reading if np.ptp(np.sign(frame)) else Reading("", False, 0, 0.0, [])          # of one sign: blank
                for frame, reading in zip(frames, self.code.read(frames), strict=True)]
        return np.rint((run.history + 1) * (LEVELS / 2)).astype(np.uint8), f"{run.state} after {run.ticks} ticks", read

    def between(self, a: str, b: str) -> list[list]:
        """Rows (share, text): five texts from a to b, through their meaning."""
        told = self.model.interpolate(a[:TEXT_CHARACTERS], b[:TEXT_CHARACTERS])
        return [[i / (len(told) - 1), text] for i, text in enumerate(told)]

    def tick(self, history: np.ndarray, tick: int) -> Image.Image:
        return self.picture(history[min(max(int(tick), 0), len(history) - 1)] / (LEVELS / 2) - 1)

    def remember(self, memory: WheelerMemory | None, text: str, cells: str) -> WheelerMemory:
        """The memory with one more text, under the frame that is shown. ValueError where it is full."""
        memory = WheelerMemory(self.side, self.side) if memory is None else memory
        text = text[:TEXT_CHARACTERS]
        if len(memory) >= MEMORIES and text not in memory:
            raise ValueError(f"{MEMORIES} texts are all that this page remembers")
        memory.remember(from_cells(cells, self.side), text)
        return memory

    def recall(self, memory: WheelerMemory | None, cells: str, noise: float, seed: int = 0) -> tuple[list[list], str]:
        """Rows (similarity, text), best first, for the disturbed frame, and the cells of the best one's attractor."""
        if not memory:
            raise ValueError("Nothing is remembered yet.")
        cue = add_noise(from_cells(cells, self.side), min(max(float(noise), 0.0), 2.0), np.random.default_rng([seed]))
        found = memory.recall(cue, k=5)
        return [[round(r.similarity, 3), r.text] for r in found], to_cells(memory.attractor(found[0].text))


def build(player: Player) -> gr.Blocks:
    """The page. Its events run one at a time: they share the model."""
    def alert(function):
        def call(*values):
            try:
                return function(*values)
            except ValueError as error:
                raise gr.Error(str(error), duration=8, print_exception=False) from None
        return call

    def refresh(cells, noise, text):
        history, note, (before, after) = player.collapse(cells, noise)
        last = len(history) - 1
        return (history, gr.update(maximum=last, value=last), player.tick(history, last), note,
                player.said(before, text), player.said(after, text))

    def written(text, redundant):
        return (*player.write(text, redundant), text[:TEXT_CHARACTERS])

    def recalled(memory, cells, noise):
        rows, cells = player.recall(memory, cells, noise)
        return rows, cells, rows[0][1]

    def remembered(memory, text, cells):
        memory = player.remember(memory, text, cells)
        return memory, [[None, entry["text"]] for entry in memory.entries]

    palette = np.asarray(frame_image(np.linspace(-1, 1, LEVELS + 1)[None], 1).convert("RGB"))[0].tolist()
    with gr.Blocks(title="Wheeler AI", analytics_enabled=False) as page:
        history, memory, in_frame = gr.State(None), gr.State(None), gr.State(STORY)    # the text that the frame is of
        gr.Markdown("# Wheeler AI\nA text becomes a picture that survives: **write** it, **paint** on the frame or add "
                    "**noise**, watch the automaton **collapse** it, and read the text back. The top of the frame "
                    "shows what the text is about, the bottom its very words; without them a **gist** is left.")
        with gr.Row():
            text = gr.Textbox(STORY, label="Text", lines=2, max_length=TEXT_CHARACTERS, scale=4, min_width=320,
                              elem_id="text")
            with gr.Column(scale=1, min_width=160):
                redundant = gr.Checkbox(label="redundant frame: holds less, withstands more", elem_id="redundant")
                write = gr.Button("Write into a frame", variant="primary", elem_id="write")
        with gr.Row():
            with gr.Column():
                gr.Markdown("**Frame**: paint or erase with the mouse")
                canvas = gr.HTML(to_cells(np.ones((player.side, player.side))), html_template=CANVAS,
                                 css_template=CANVAS_CSS, js_on_load=CANVAS_JS, side=player.side, palette=palette,
                                 elem_id="canvas")
                cost = gr.Textbox(show_label=False, container=False, elem_id="cost")
                noise = gr.Slider(0, 1.5, 0.5, step=0.05, label="Noise; below 1 it keeps the signs", elem_id="noise")
            with gr.Column():
                gr.Markdown("**The dynamics**: from the disturbed frame to its attractor")
                shown = gr.Image(show_label=False, interactive=False, buttons=[], height=420, elem_id="shown")
                tick = gr.Slider(0, 1, 0, step=1, label="Tick", elem_id="tick")
                state = gr.Textbox(show_label=False, container=False, elem_id="state")
        with gr.Row():
            before = gr.Textbox(label="Read from the disturbed frame", lines=2, elem_id="before")
            after = gr.Textbox(label="Read after the collapse", lines=2, elem_id="after")
        with gr.Row():
            with gr.Column(scale=1, min_width=200):
                remember = gr.Button("Remember this text and frame", elem_id="remember")
                recall = gr.Button("Recall by the frame as it is now", elem_id="recall")
            table = gr.Dataframe(headers=["similarity", "remembered text"], column_widths=["15%", "85%"], scale=4,
                                 interactive=False, label="Memory", elem_id="memory", wrap=True)
        with gr.Row():
            with gr.Column(scale=1, min_width=200):
                other = gr.Textbox(OTHER, label="Another text", lines=2, max_length=TEXT_CHARACTERS, elem_id="other")
                blend = gr.Button("Texts between the two", elem_id="blend")
            between = gr.Dataframe(headers=["share", "text"], column_widths=["15%", "85%"], scale=4, interactive=False,
                                   label="From one text to the other, by meaning", elem_id="between", wrap=True)
        common = dict(concurrency_limit=1, concurrency_id="model", api_visibility="private")
        pictures = dict(fn=alert(refresh), inputs=[canvas, noise, in_frame],
                        outputs=[history, tick, shown, state, before, after])
        for event in (write.click, text.submit, page.load):
            event(alert(written), [text, redundant], [canvas, cost, in_frame], **common).success(
                **pictures, **common)
        for event in (canvas.input, noise.release):
            event(**pictures, **common)
        blend.click(alert(player.between), [text, other], between, **common)
        tick.input(alert(player.tick), [history, tick], shown, show_progress="hidden", trigger_mode="always_last",
                   **common)
        remember.click(alert(remembered), [memory, in_frame, canvas], [memory, table], **common)
        recall.click(alert(recalled), [memory, canvas, noise], [table, canvas, in_frame], **common).success(
            lambda: 0, None, noise, **common).success(**pictures, **common)
    return page


@contextmanager
def ended_by_signals():
    """Inside, SIGTERM and SIGHUP are a KeyboardInterrupt, on which Gradio closes the page; gives a list of those that
    came."""
    received = []

    def end(number, frame):
        received.append(number)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers
              if signal.getsignal(number) is not signal.SIG_IGN}              # nohup
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve_page(model: WheelerTextAutoencoder, folder: str, host: str, port: int) -> None:
    """Write the static page into a folder; where that is "", serve it from a folder of its own until a signal comes."""
    files = build_page(model, folder or os.path.join(TEMPORARY, "page"))
    if folder:
        size = sum(file.stat().st_size for file in files)
        print(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB; put them on any host of static files", flush=True)
        return
    with server(files[0].parent, host, port) as answering:
        print(f"Running on local URL:  http://{host}:{port}", flush=True)
        answering.serve_forever()


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="checkpoints/best.pt", help="file of train.py or folder of a model")
    parser.add_argument("--host", default="127.0.0.1", help="address to answer on; 0.0.0.0: to the network")
    parser.add_argument("--port", type=int, default=7860, help="port, 1 .. 65535")
    parser.add_argument("--page", nargs="?", const="", metavar="FOLDER",
                        help="the static page instead: write it into a folder, or serve it where none is given")
    args, received = parser.parse_args(argv), []
    open_console()
    try:
        if not 1 <= args.port <= 65535:
            raise ValueError(f"--port {args.port} must be in 1 .. 65535")
        model = WheelerTextAutoencoder.load_from_checkpoint(args.checkpoint)
        if model.tokenizer is None:
            raise ValueError(f"--checkpoint {args.checkpoint}: it has no tokenizer")
        page = build(Player(model)) if args.page is None else None
        os.makedirs(TEMPORARY, mode=0o700, exist_ok=True)
        with no_proxy(), ended_by_signals() as received:
            if page is None:
                serve_page(model, args.page, args.host, args.port)
                return 0
            page.launch(server_name=args.host, server_port=args.port, **LAUNCH)
    except KeyboardInterrupt:
        return 128 + (received or [signal.SIGINT])[0]
    except (ValueError, OSError) as error:
        print(f"app.py: {complaint(error)}", file=sys.stderr)
        return 2
    return 128 + received[0] if received else 0


if __name__ == "__main__":
    sys.exit(main())
