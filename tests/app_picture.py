"""The four tabs of app.py with the model that comes with the project, as one picture.

    PYTHONPATH=. python tests/app_picture.py docs/assets/app.png

Needs Chromium and its driver, as the browser tests do.
"""

import base64
import io
import sys

from conftest import chromium
from PIL import Image, ImageChops
from test_app import HOME, RIGHT, Visit

from models import WheelerTextAutoencoder
from wheeler.app.local import LAUNCH, no_proxy
from wheeler.app.player import Player, examples
from wheeler.app.tabs import build

WIDTH, GAP = 1000, 60
BIRD = examples()[1]


def shot(visit: Visit) -> Image.Image:
    visit.until(lambda: "processing" not in visit.find("body").text, "it does not come to rest")
    height = visit.browser.execute_script("return document.documentElement.scrollHeight")
    data = visit.browser.execute_cdp_cmd("Page.captureScreenshot", {
        "captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}})["data"]
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    left, top, right, bottom = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    return image.crop((left, top, right, bottom))


def pictures(visit: Visit) -> list[Image.Image]:
    """Of the tabs, one after the other, as a visitor would leave them."""
    visit.open(WIDTH)
    visit.write(BIRD)
    visit.slide("tick", HOME)
    visit.until(lambda: visit.value("tick") == "0", "the ticks do not scrub")
    out = [shot(visit)]
    visit.tab("Gist", "gist-share")
    visit.type("gist-text", BIRD)
    visit.click("gist-write")
    visit.until(lambda: visit.value("gist-told") == f"✓ {BIRD}", "the text is not read")
    visit.slide("gist-share", RIGHT * 30)
    visit.until(lambda: visit.value("gist-left").startswith("60% "), "the slider does nothing")
    out.append(shot(visit))
    visit.tab("Between", "make")
    visit.click("make")
    visit.until(lambda: visit.value("between-told").startswith("✓ "), "nothing is read")
    out.append(shot(visit))
    visit.tab("Memory", "ask")
    visit.click("ten")
    visit.until(lambda: "10 stories" in visit.value("memory-state"), "the examples are not remembered")
    visit.click("ask")
    visit.until(lambda: visit.value("memory-told").startswith("✓ "), "nothing is recalled")
    out.append(shot(visit))
    return out


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print(f"app_picture.py: wanted FILE, not {' '.join(argv)!r}", file=sys.stderr)
        return 2
    page = build(Player(WheelerTextAutoencoder.load_from_checkpoint("checkpoints/wheeler-21m")))
    with no_proxy():
        _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **LAUNCH)
    browser = chromium()
    try:
        tabs = pictures(Visit(browser, address))
    finally:
        browser.quit()
        page.close()
    # Two above two: the tabs of the left, then those of the right.
    columns = [tabs[:2], tabs[2:]]
    width, height = max(tab.width for tab in tabs) + GAP, max(sum(tab.height + GAP for tab in two) for two in columns)
    out = Image.new("RGB", (2 * width + GAP, height + GAP), "white")
    for k, (upper, lower) in enumerate(columns):
        out.paste(upper, (GAP + k * width, GAP))
        out.paste(lower, (GAP + k * width, upper.height + 2 * GAP))
    out.quantize(64).save(argv[0], optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
