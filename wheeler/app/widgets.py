"""What the page has of its own: a frame that is painted on, a list of texts with bars, a slider that bears any
number."""

from abc import ABCMeta

import numpy as np

from wheeler.app.local import gr

LEVELS = 254                                                                  # cells are sent as 0 .. 254

# The frame that a mouse or a finger paints on: a canvas of a pixel a cell. Its value is two hexadecimal digits a cell.
CANVAS = """
<canvas width="${side}" height="${side}" aria-label="frame: paint with the mouse or a finger"></canvas>
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

# Texts with how near each is, as a number and a bar. Its value is a JSON list of [similarity or null, text].
LIST = '<ul aria-label="remembered texts"></ul>'
LIST_CSS = """
ul { list-style: none; margin: 0; padding: 0; max-height: 24em; overflow-y: auto; }
li { padding: 0.4em 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere; white-space: pre-line; }
.near { display: flex; align-items: center; gap: 0.6em; font-variant-numeric: tabular-nums; }
.bar { height: 0.7em; background: #f4be68; border-radius: 2px; }"""
LIST_JS = """
function add(parent, kind, name, text) {
  const made = parent.appendChild(document.createElement(kind));
  made.className = name;
  made.textContent = text;                                      // never as HTML
  return made;
}
function load() {
  const list = element.querySelector('ul');
  list.replaceChildren();
  for (const [near, text] of JSON.parse(props.value || '[]')) {
    const row = add(list, 'li', '', '');
    if (near !== null) {
      const line = add(row, 'div', 'near', near.toFixed(2));
      add(line, 'div', 'bar', '').style.width = `${80 * Math.max(0, near)}%`;
    }
    add(row, 'div', 'text', text);
  }
}
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


class Quiet(type(gr.Slider)):
    """Gradio's class of components, which would write a .pyi file beside this one."""

    def __new__(cls, name, bases, attributes):
        return ABCMeta.__new__(cls, name, bases, attributes)


class Slider(gr.Slider, metaclass=Quiet):
    """A slider whose number box may be emptied, or hold a number out of range: the nearest one in range counts, and the
    minimum for what is no number. Gradio's own raises an error then, while the page shows something else."""

    is_template = True                                                        # drawn as the class above

    def preprocess(self, payload) -> float:
        number = payload if isinstance(payload, int | float) and payload == payload else self.minimum
        return super().preprocess(min(max(number, self.minimum), self.maximum))
