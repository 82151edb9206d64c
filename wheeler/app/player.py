"""What the page does, for one model, without anything that is seen: texts in frames, damage, memories."""

import math

import numpy as np
from PIL import Image

from models import WheelerTextAutoencoder
from wheeler.app.widgets import LEVELS, from_cells, to_cells
from wheeler.cli import counted
from wheeler.dynamics.tiles import TILE, join_tiles, split_tiles
from wheeler.frame.code import cost_of, frame_bits
from wheeler.frame.contents import Reading, ReadOnce
from wheeler.model.inputs import encode_text
from wheeler.model.tokenizer import altered, example
from wheeler.page import EXAMPLES, PAGE, stories_of
from wheeler_cpu import WheelerMemoryCPU, add_noise, frame_image
from wheeler_store import Recall, WheelerMemory

TEXT_CHARACTERS, MEMORIES, MAX_TICKS = 4000, 100, 200
STEPS = 11                                                                    # texts from one to another, both counted
KEPT_READINGS = 500
# How far the first of the ten examples is ahead of the second, at most, for about 95% of 60 unrelated beginnings of
# stories, with the model that comes with the project.
LEAD = {"frame": 0.05, "meaning": 0.09}
SAID = {"words": "the text, word for word", "gist": "a gist", "nothing": "nothing", "foreign": "of other weights"}


def number(value, low: float, high: float) -> float:
    """What a slider says, within its range. ValueError where it is none."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        value = math.nan
    if math.isnan(value):
        raise ValueError("That is no number.")
    return min(max(value, low), high)


def stands_out(found: list[Recall], by: str) -> bool:
    """Whether the first of what `Player.recall` found is nearer than by chance, or far ahead of the second."""
    return bool(found[0].alike) or len(found) > 1 and found[0].similarity - found[1].similarity >= LEAD[by]


def examples() -> list[str]:
    """The ten stories that the page knows."""
    return [story["text"] for story in stories_of(PAGE / EXAMPLES)]


class Player:
    """What the page does, for one model. Its texts are cut to TEXT_CHARACTERS, and to as many tokens as a frame has."""

    def __init__(self, model: WheelerTextAutoencoder):
        self.model, self.code = model, ReadOnce(model.frame_code(), KEPT_READINGS)
        self.side = model.config.grid_size

    def picture(self, frame: np.ndarray) -> Image.Image:
        return frame_image(frame, scale=max(1, 512 // self.side)).convert("RGB")

    def tokens(self, text: str) -> tuple[list[int], str]:
        """Token ids of a text, the end token last, and the characters that are in them. ValueError where it is none."""
        if not text.strip():
            raise ValueError("There is no text yet.")
        return encode_text(text[:TEXT_CHARACTERS], self.model.tokenizer, self.model.config)

    # ---- one frame ----

    def write(self, text: str, redundant: bool | str = False) -> tuple[str, str]:
        """A text -> cells of its frame, which holds its gist alone where the words do not fit, and what there is to
        say. redundant: see `FrameCode.write`."""
        ids, kept = self.tokens(text)
        (one,) = self.code.write([ids], redundant)
        holds = f"about {frame_bits(self.side, self.side, redundant=redundant):.0f} bits"
        if one.fits:
            note = f"{one.cost:.0f} of {holds}, {counted(len(one.tiles), 'meaning tile')}"
        else:
            cost = cost_of(self.code.charges([ids], [one.tiles[:0]])[0])
            note = (f"they cost {cost:.0f} bits, a {'redundant ' * bool(redundant)}frame holds {holds}: its gist is in "
                    f"{counted(len(one.tiles), 'meaning tile')}, its words are not")
        lost = altered(self.model.tokenizer, [kept], [ids])
        note += f"; the tokenizer does not give the text back: {example(*lost[0])}" if lost else ""
        return to_cells(one.frame), f"{counted(len(ids), 'token')}{' of a text that was cut' * (kept != text)}, {note}"

    def read(self, frames: np.ndarray) -> list[Reading]:
        """What frames (B, H, W) say, as `FrameCode.read`; one of a single sign is blank, which has no gist."""
        readings = self.code.read(frames)
        return [reading if np.ptp(np.sign(frame)) else Reading("", False, 0, 0.0, [])
                for frame, reading in zip(frames, readings, strict=True)]

    def said(self, reading: Reading, text: str | None) -> str:
        """What to say of a reading of a frame that `text` was written into; None: nobody knows."""
        kept = text if text is None else encode_text(text, self.model.tokenizer, self.model.config)[1]
        if reading.exact and kept in (None, reading.text):
            return "✓ " + reading.text
        if reading.exact:                                                     # all tokens are there, not the characters
            return "✗ differs: " + reading.text
        if reading.kind == "gist":
            return "✗ gist: " + reading.text
        return "✗ nothing can be read, neither words nor meaning"

    def disturbed(self, cells: str, noise: float, seed: int = 0) -> np.ndarray:
        """Cells, noise amplitude -> the frame (H, W) float32."""
        return add_noise(from_cells(cells, self.side), number(noise, 0, 2), np.random.default_rng([seed]))

    def collapse(self, cells: str, noise: float) -> tuple[np.ndarray, str, list[Reading]]:
        """Cells, noise amplitude -> the history as levels (ticks + 1, H, W) uint8, a note, and what is read from the
        disturbed frame and from its attractor."""
        noisy = self.disturbed(cells, noise)
        run = WheelerMemoryCPU(self.side, self.side).run_dynamics(noisy, MAX_TICKS)
        levels = np.rint((run.history + 1) * (LEVELS / 2)).astype(np.uint8)
        return levels, f"{run.state} after {counted(run.ticks, 'tick')}", self.read(np.stack([noisy, run.final_frame]))

    def tick(self, history: np.ndarray | None, tick: int) -> Image.Image:
        """The picture of the frame at a tick of the history of `collapse`."""
        if history is None:
            raise ValueError("Write a text into a frame first.")
        return self.picture(history[int(number(tick, 0, len(history) - 1))] / (LEVELS / 2) - 1)

    # ---- what is left of it ----

    def erased(self, cells: str, percent: float) -> np.ndarray:
        """The frame (H, W) float32 without that share of its cells, 0 to 100 percent, tile by tile from the lower
        right: first what the words leave free, then the words, then the meaning, the header last."""
        frame = from_cells(cells, self.side)
        tiles = split_tiles(frame).reshape(-1).copy()
        tiles[tiles.size - round(tiles.size * number(percent, 0, 100) / 100) :] = 0
        return join_tiles(tiles.reshape(-1, TILE**2), self.side, self.side)

    def left(self, cells: str, percent: float) -> tuple[Image.Image, Reading, str]:
        """Of a frame without that share of its cells: its picture, what is read from it, and a note."""
        frame = self.erased(cells, percent)
        whole, reading = self.read(np.stack([from_cells(cells, self.side), frame]))
        share = np.count_nonzero(frame == 0) / frame.size
        note = (f"{share:.0%} of the cells are erased. What is read is {SAID[reading.kind]}; "
                f"{reading.meaning_tiles:.3g} of {whole.meaning_tiles:.3g} meaning tiles are left.")
        return self.picture(frame), reading, note

    # ---- from one text to another ----

    def between(self, a: str, b: str) -> list[tuple[str, str]]:
        """(text, cells of its frame) at STEPS equal distances from a to b, through their meaning; a first, b last."""
        (_, a), (_, b) = self.tokens(a), self.tokens(b)
        ids, texts = zip(*(encode_text(text, self.model.tokenizer, self.model.config)
                           for text in self.model.interpolate(a, b, STEPS)), strict=True)
        return [(text, to_cells(one.frame)) for text, one in zip(texts, self.code.write(list(ids)), strict=True)]

    def position(self, row: list[tuple[str, str]] | None, share: float) -> tuple[Image.Image, Reading, str]:
        """Of a row of `between` at a share, 0 .. 1: the picture of the frame, what is read from it, and the text."""
        if not row:
            raise ValueError("Make the texts between the two first.")
        text, cells = row[round(number(share, 0, 1) * (len(row) - 1))]
        frame = from_cells(cells, self.side)
        return self.picture(frame), self.read(frame[None])[0], text

    # ---- memories ----

    def remember(self, memory: WheelerMemory | None, texts: list[str]) -> WheelerMemory:
        """The memory with more texts, each under its frame. ValueError where that is too many."""
        memory = WheelerMemory(model=self.model) if memory is None else memory
        kept = list(dict.fromkeys(self.tokens(text)[1] for text in texts))
        if len(memory) + sum(text not in memory for text in kept) > MEMORIES:
            raise ValueError(f"{MEMORIES} texts are all that this page remembers.")
        memory.remember(kept)
        return memory

    def recall(self, memory: WheelerMemory | None, cue: str | np.ndarray, by: str = "frame") -> list[Recall]:
        """The five memories that a text or a frame (H, W) is nearest to, best first; by: see WheelerMemory.recall."""
        if not memory:
            raise ValueError("Nothing is remembered yet.")
        return memory.recall(self.tokens(cue)[1] if isinstance(cue, str) else cue, k=5, by=by)

    def remembered(self, memory: WheelerMemory, text: str) -> tuple[Image.Image, Reading]:
        """The picture of the attractor that is kept under a text, and what is read from it."""
        frame = memory.attractor(text)
        return self.picture(frame), self.read(frame[None])[0]
