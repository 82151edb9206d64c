"""What is seen of the page: its tabs, and what happens when something is clicked."""

import html
import json

import numpy as np

from wheeler.app.local import gr
from wheeler.app.player import MEMORIES, STEPS, TEXT_CHARACTERS, Player, examples, stands_out
from wheeler.app.widgets import CANVAS, CANVAS_CSS, CANVAS_JS, LEVELS, LIST, LIST_CSS, LIST_JS, Slider, to_cells
from wheeler_cpu import frame_image
from wheeler_store import WheelerMemory

STORY = ("Once upon a time there was a little rabbit. He lived in a big garden with his mom. One day he found a red "
         "ball under a tree.")
OTHER = ("A small bird sat in a tall tree. She was afraid to fly. Her friend the squirrel said she could do it. She "
         "jumped and flew to the moon.")
# Of the second example in other words.
QUESTION = "A little bird was scared to fly, but her friend helped her, and she flew over all the trees."
KINDS = [("plain", ""), ("against flips", "flips"), ("against erasures", "erasures")]
MEASURES = [("all cells", "frame"), ("meaning tiles alone", "meaning")]
# Events run one at a time: they share the model.
ONE = dict(concurrency_limit=1, concurrency_id="model", api_visibility="private")
LAST = ONE | dict(show_progress="hidden", trigger_mode="always_last")         # of a slider that moves


def alert(function):
    """A function whose ValueErrors become sentences on the page."""
    def call(*values):
        try:
            return function(*values)
        except ValueError as error:
            # Shown as HTML, and a sentence may quote what was typed.
            raise gr.Error(html.escape(str(error)), duration=8, print_exception=False) from None
    return call


def text_box(value: str, label: str, name: str, **more) -> gr.Textbox:
    return gr.Textbox(value, label=label, lines=3, max_length=TEXT_CHARACTERS, elem_id=name, **more)


def frame_picture(name: str, height: int | None = 340) -> gr.Image:
    return gr.Image(show_label=False, interactive=False, buttons=[], height=height, elem_id=name)


def note_box(name: str, value: str | None = None) -> gr.Textbox:
    return gr.Textbox(value, show_label=False, container=False, lines=1, max_lines=4, elem_id=name)


def frame_tab(player: Player, page: gr.Blocks) -> tuple[gr.HTML, Slider]:
    """Write, paint, disturb, collapse, read; returns the canvas and the slider of the noise."""
    def refresh(cells, noise, text):
        history, note, (before, after) = player.collapse(cells, noise)
        last = len(history) - 1
        return (history, gr.update(maximum=last, value=last), player.tick(history, last), note,
                player.said(before, text), player.said(after, text))

    def written(text, redundant):
        return (*player.write(text, redundant), text[:TEXT_CHARACTERS])

    palette = np.asarray(frame_image(np.linspace(-1, 1, LEVELS + 1)[None], 1).convert("RGB"))[0].tolist()
    history, in_frame = gr.State(None), gr.State(STORY)                       # the text that the frame is of
    gr.Markdown("**Write** a text into a frame, **paint** on it or add **noise**, watch the automaton **collapse** it, "
                "and read the text back. The top of the frame shows what the text is about, the bottom its very words.")
    with gr.Row():
        text = text_box(STORY, "Text", "text", scale=4, min_width=280)
        with gr.Column(scale=2, min_width=280):
            redundant = gr.Radio(KINDS, value="", label="Frame; redundant ones hold less and withstand more",
                                 elem_id="redundant")
            write = gr.Button("Write into a frame", variant="primary", elem_id="write")
    with gr.Row():
        with gr.Column(min_width=280):
            gr.Markdown("**Frame**: paint or erase with the mouse or a finger")
            canvas = gr.HTML(to_cells(np.ones((player.side, player.side))), html_template=CANVAS,
                             css_template=CANVAS_CSS, js_on_load=CANVAS_JS, side=player.side, palette=palette,
                             elem_id="canvas")
            cost = note_box("cost")
            noise = Slider(0, 1.5, 0.5, step=0.05, label="Noise; below 1 it keeps the signs", elem_id="noise")
        with gr.Column(min_width=280):
            gr.Markdown("**The dynamics**: from the disturbed frame to its attractor")
            shown = frame_picture("shown", height=None)          # as high as the canvas: CSS
            tick = Slider(0, 1, 0, step=1, label="Tick", elem_id="tick")
            state = note_box("state")
    with gr.Row():
        before = gr.Textbox(label="Read from the disturbed frame", lines=2, min_width=280, elem_id="before")
        after = gr.Textbox(label="Read after the collapse", lines=2, min_width=280, elem_id="after")
    pictures = dict(fn=alert(refresh), inputs=[canvas, noise, in_frame],
                    outputs=[history, tick, shown, state, before, after])
    for event in (write.click, text.submit, page.load):
        event(alert(written), [text, redundant], [canvas, cost, in_frame], **ONE).success(**pictures, **ONE)
    for event in (canvas.input, noise.release):
        event(**pictures, **ONE)
    tick.input(alert(player.tick), [history, tick], shown, **LAST)
    return canvas, noise


def gist_tab(player: Player, page: gr.Blocks) -> None:
    """A frame that is erased little by little."""
    def erased(cells, percent, text):
        picture, reading, note = player.left(cells, percent)
        return picture, player.said(reading, text), note

    def written(text):
        cells, _ = player.write(text)
        return cells, text[:TEXT_CHARACTERS]

    cells, in_frame = gr.State(None), gr.State(STORY)
    gr.Markdown("Move the slider and **erase the frame tile by tile, from the lower right to the upper left**: first "
                "what the words leave free, then the words, then the meaning, the header last. Until the words are "
                "touched, the text is exact; then a gist is left, of fewer and fewer meaning tiles; then nothing.")
    with gr.Row():
        text = text_box(STORY, "Text", "gist-text", scale=4, min_width=280)
        write = gr.Button("Write into a frame", variant="primary", elem_id="gist-write", scale=1, min_width=280)
    share = Slider(0, 100, 0, step=2, label="Erased, percent of the cells", elem_id="gist-share")
    with gr.Row():
        with gr.Column(min_width=280):
            shown = frame_picture("gist-shown")
            gr.Markdown("Dark is -1, light is +1, green is erased.")
        with gr.Column(min_width=280):
            left = note_box("gist-left")
            told = gr.Textbox(label="Read from what is left", lines=6, elem_id="gist-told")
    reads = dict(fn=alert(erased), inputs=[cells, share, in_frame], outputs=[shown, told, left])
    for event in (write.click, text.submit, page.load):
        event(alert(written), text, [cells, in_frame], **ONE).success(**reads, **ONE)
    share.input(**reads, **LAST)


def between_tab(player: Player) -> None:
    """Two texts, and a slider from one to the other."""
    def at(row, share):
        picture, reading, text = player.position(row, share)
        return picture, player.said(reading, text)

    row = gr.State(None)
    gr.Markdown(f"From one story to another **through their meaning**: {STEPS} texts. The ends are the stories "
                "themselves; between them stands what the model tells of a mixture of their meanings. Each text has a "
                "frame of its own, and what you see is read from it.")
    with gr.Row():
        first = text_box(STORY, "From", "first", min_width=280)
        second = text_box(OTHER, "To", "second", min_width=280)
    make = gr.Button("Make the texts between the two", variant="primary", elem_id="make")
    share = Slider(0, 1, 0.5, step=1 / (STEPS - 1), label="From the first, 0, to the second, 1", elem_id="share")
    with gr.Row():
        with gr.Column(min_width=280):
            shown = frame_picture("between-shown")
        with gr.Column(min_width=280):
            told = gr.Textbox(label="Read from its frame", lines=8, elem_id="between-told")
    reads = dict(fn=alert(at), inputs=[row, share], outputs=[shown, told])
    make.click(alert(player.between), [first, second], row, **ONE).success(**reads, **ONE)
    share.input(**reads, **LAST)


def memory_tab(player: Player, canvas: gr.HTML, noise: Slider) -> None:
    """Texts that are remembered, and asked for."""
    def shown_of(memory: WheelerMemory):
        return (memory, json.dumps([[None, text] for text in memory]),
                f"{len(memory)} {'story is' if len(memory) == 1 else 'stories are'} remembered.")

    def remembered(memory, text):
        return shown_of(player.remember(memory, [text]))

    def ten(memory):
        return shown_of(player.remember(memory, examples()))

    def answer(memory, cue, by):
        found = player.recall(memory, cue, by)
        picture, reading = player.remembered(memory, found[0].text)
        note = "" if stands_out(found, by) else "None stands out: the best may be near by chance. "
        return (json.dumps([[one.similarity, one.text] for one in found]), picture, player.said(reading, found[0].text),
                f"{note}{len(memory)} remembered, the nearest {len(found)} shown.")

    def by_frame(memory, cells, amplitude, by):
        return answer(memory, player.disturbed(cells, amplitude), by)

    memory = gr.State(None)
    gr.Markdown("**Remember** stories: each is kept as the frame that it is written into. **Ask** with a few words or "
                "a sentence, or with the frame of the first tab, damaged as it is: the nearest frames answer.")
    with gr.Row():
        with gr.Column(min_width=280):
            text = text_box("", f"A story to remember, one of {MEMORIES} at most", "story")
            with gr.Row():
                remember = gr.Button("Remember", elem_id="remember", min_width=120)
                more = gr.Button("Add ten example stories", elem_id="ten", min_width=180)
        with gr.Column(min_width=280):
            cue = gr.Textbox(QUESTION, label="Ask with a few words or a sentence", max_length=TEXT_CHARACTERS,
                             elem_id="cue")
            by = gr.Radio(MEASURES, value="meaning", label="Compared by", elem_id="by")
            with gr.Row():
                ask = gr.Button("Ask", variant="primary", elem_id="ask", min_width=120)
                recall = gr.Button("Ask with the frame of the first tab", elem_id="recall", min_width=180)
    state = note_box("memory-state", "Nothing is remembered yet.")
    table = gr.HTML("[]", html_template=LIST, css_template=LIST_CSS, js_on_load=LIST_JS, elem_id="memory")
    with gr.Row():
        with gr.Column(min_width=280):
            shown = frame_picture("memory-shown")
        with gr.Column(min_width=280):
            told = gr.Textbox(label="Read from the attractor of the nearest", lines=6, elem_id="memory-told")
    for event in (remember.click, text.submit):
        event(alert(remembered), [memory, text], [memory, table, state], **ONE)
    more.click(alert(ten), memory, [memory, table, state], **ONE)
    answers = [table, shown, told, state]
    for event in (ask.click, cue.submit):
        event(alert(answer), [memory, cue, by], answers, **ONE)
    recall.click(alert(by_frame), [memory, canvas, noise, by], answers, **ONE)


def build(player: Player) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="Wheeler AI", analytics_enabled=False) as page:
        gr.Markdown("# Wheeler AI\nA text becomes a picture that survives.")
        with gr.Tabs():
            with gr.Tab("Frame", elem_id="tab-frame"):
                canvas, noise = frame_tab(player, page)
            with gr.Tab("Gist", elem_id="tab-gist"):
                gist_tab(player, page)
            with gr.Tab("Between", elem_id="tab-between"):
                between_tab(player)
            with gr.Tab("Memory", elem_id="tab-memory"):
                memory_tab(player, canvas, noise)
    return page
