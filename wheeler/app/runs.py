"""The page of `app.py --watch`: curves of runs while they train, and what their stories become as frames."""

import os
from collections.abc import Sequence

import numpy as np

from wheeler.app.local import gr
from wheeler.app.widgets import Slider
from wheeler.dynamics.pictures import frame_image
from wheeler.training.watch import COLOURS, MOST_RUNS, MOST_STORIES, PANELS, Watcher, curve, pale

SECONDS = 2.0                                                                 # between two looks at the folders
COLUMNS = ["65px", "120px", "75px", "115px", "115px", "360px", "360px"]       # of the table, which scrolls


def where(steps: Sequence[int], place: int) -> str:
    """What the slider says at a place among the steps of the evaluations."""
    if not steps:
        return "The stories at an evaluation: none yet"
    place = min(max(place, 0), len(steps) - 1)
    last = place == len(steps) - 1
    return f"The stories at step {steps[place]:,}" + ", the last evaluation: goes on with the runs" * last


def page(folders: Sequence[str | os.PathLike], every: float = SECONDS):
    """The page of `app.py --watch`, a gradio Blocks. every: seconds between two looks. UsageError as of `Watcher`."""
    watcher = Watcher(folders)
    with gr.Blocks(title="Wheeler AI: training", analytics_enabled=False) as blocks:
        # What this reader has seen, and the step that he looks back at, None for the last one.
        seen, looking = gr.State(-1), gr.State(None)
        gr.Markdown("# Training\nCurves of the runs, and three unseen stories at every evaluation: their **frames**, "
                    "and what is read from those after **noise** of 0.9 and the dynamics. A frame with too few bits "
                    "for a story's words still holds its **gist**. The validation loss adds up three parts; exact "
                    "match is that of texts read from the grid.")
        state = gr.Textbox(label="Runs", lines=1, max_lines=MOST_RUNS + 2, interactive=False, elem_id="state")
        plots = []
        for start in range(0, len(PANELS), 2):
            with gr.Row():
                plots += [gr.LinePlot(None, x="step", y="value", color="run", title=title, x_title="optimizer steps",
                                      y_title=" ", color_title=" ", height=230, buttons=[], elem_id=f"plot-{start + i}",
                                      y_lim=[0, 1.05] if title.endswith("exact match") else None)
                          for i, title in enumerate([*PANELS][start : start + 2])]
        back = Slider(0, 1, 0, step=1, label=where([], 0), elem_id="back")
        gallery = gr.Gallery(show_label=False, columns=2 * MOST_STORIES, format="png", buttons=[],
                             object_fit="contain", interactive=False, allow_preview=False, elem_id="frames")
        table = gr.Dataframe(headers=["story", "run", "step", "came back", "its words cost", "what was read",
                                      "what was written"], column_widths=COLUMNS,
                             datatype="str", max_chars=160, max_height=900, interactive=False, wrap=True,
                             show_label=False, elem_id="read")

        def refresh(version, at):
            watcher.update()
            if version == watcher.version:
                return [gr.skip()] * (5 + len(plots))
            steps = watcher.evaluations()
            place = len(steps) - 1 if at is None else int(np.searchsorted(steps, at, "right")) - 1
            slider = gr.update(maximum=max(1, len(steps) - 1), value=max(0, place), interactive=len(steps) > 1,
                               label=where(steps, place))
            return watcher.version, watcher.state(), *map(chart, PANELS), slider, *stories(at)

        def chart(title):
            from pandas import DataFrame  # what LinePlot takes

            points, colours = [], {}
            for (name, run), colour in zip(watcher.runs.items(), COLOURS, strict=False):
                for key, (what, faint) in PANELS[title].items():
                    colours[f"{name}{what}"] = pale(colour) if faint else colour
                    points += [(*point, f"{name}{what}") for point in zip(*curve(run.rows, key), strict=True)]
            value = DataFrame(points, columns=["step", "value", "run"]) if points else None
            return gr.LinePlot(value, color_map=colours)

        def stories(at):
            pictures, rows = [], []
            for name, (step, told) in watcher.stories(at).items():
                pictures += [(frame_image(story.frame, max(1, 512 // len(story.frame))).convert("RGB"),
                              f"{name}: {story.verdict}") for story in told]
                rows += [[str(i + 1), name, f"{step:,}", story.verdict, story.room, story.read, story.text]
                         for i, story in enumerate(told)]
            rows.sort(key=lambda row: row[0])                                 # runs stay in order
            return pictures, rows

        def look(place):
            steps, place = watcher.evaluations(), int(place)
            at = None if place >= len(steps) - 1 else steps[place]
            return at, gr.update(label=where(steps, place)), *stories(at)

        common = dict(concurrency_limit=1, concurrency_id="watch", api_visibility="private", show_progress="hidden")
        for event in (blocks.load, gr.Timer(every).tick):
            event(refresh, [seen, looking], [seen, state, *plots, back, gallery, table], **common)
        back.input(look, back, [looking, back, gallery, table], trigger_mode="always_last", **common)
    return blocks
