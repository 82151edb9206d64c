"""Gradio, on this machine alone: no telemetry, no proxy, a folder of its own that is gone in the end."""

import atexit
import errno
import os
import secrets
import shutil
import socket
import tempfile
from contextlib import contextmanager

from wheeler.cli import reason


def check_address(host: str, port: int) -> None:
    """ValueError that names the flag, where no page can answer on that host and port, 1 .. 65535."""
    if not host:
        raise ValueError("--host is empty: wanted is a name or an address of this machine")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            if os.name == "posix":                                            # Windows would then share a taken port
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        flag = f"--port {port}" if error.errno in (errno.EADDRINUSE, errno.EACCES) else f"--host {host}"
        raise ValueError(f"{flag}: {reason(error)}") from None
    except ValueError:                                                        # a name that no network knows
        raise ValueError(f"--host {host}: no name of a host") from None


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

# The picture of the dynamics as large as the canvas beside it, and level with it. Four tabs side by side on a
# telephone, and frames to its edges.
CSS = """
#canvas .html-container { padding: 0; }
#shown { width: 100%; max-width: 420px; margin: 0; aspect-ratio: 1; border: 1px solid #888; border-radius: 0; }
#shown img { width: 100%; height: 100%; object-fit: fill; image-rendering: pixelated; }
@media (max-width: 500px) {
  .gradio-container main { padding: 8px !important; }
  .tab-container button { padding: 0 10px !important; }
}
/* A gallery as high as its pictures, their captions below them: `app.py --watch`. */
#frames, #frames .grid-wrap { height: auto !important; max-height: none !important; min-height: 0 !important;
                              overflow: visible; }
#frames .grid-container { grid-template-columns: repeat(var(--grid-cols), minmax(0, 260px)); grid-auto-rows: auto;
                          justify-content: center; align-items: start; }
#frames .thumbnail-item { aspect-ratio: auto; height: auto; }
#frames .thumbnail-item > img { display: block; height: auto; aspect-ratio: 1; }
#frames .caption-label { position: static; max-width: none; border: none; border-radius: 0; white-space: normal;
                         overflow-wrap: anywhere; }
@media (max-width: 700px) { #frames .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); } }"""
# The system's fonts: those that Gradio brings mix two faces in bold words. No tunnel, no uploads to speak of.
LAUNCH = dict(share=False, ssr_mode=False, footer_links=[], max_file_size="1mb", css=CSS,
              theme=gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")))
