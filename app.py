"""A page to play with: texts as frames that are painted on, disturbed, erased, mixed, remembered and read back.

    python app.py                                    # then open http://127.0.0.1:7860
    python app.py --checkpoint runs/a/best.pt --port 8000
    python app.py --watch checkpoints                # watch runs of train.py instead; loads no model
    python app.py --page                             # the static page of page/, which needs no Python behind it
    python app.py --page site                        # the same as a folder for any host of static files

Frame: write a text into a frame, paint on it with the mouse or a finger, or add noise: the dynamics run at once, the
slider shows every tick, and below stands what is read before and after the collapse. Gist: erase the frame step by
step, until the exact text becomes a gist, and the gist nothing. Between: a slider from one story to another, through
their meaning. Memory: stories that are remembered by their frames, and asked for with a few words or a damaged frame.
Works without a network, answers on this machine only (--host), sends nothing anywhere.
"""

import argparse
import os
import signal
import sys
from contextlib import contextmanager

from models import WheelerTextAutoencoder
from wheeler.app import runs
from wheeler.app.local import LAUNCH, TEMPORARY, check_address, no_proxy
from wheeler.app.player import Player
from wheeler.app.tabs import build
from wheeler.cli import Parser, complaint, open_console
from wheeler.page import build_page, server
from wheeler.training.run_folder import UsageError

CHECKPOINT = "checkpoints/best.pt"


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


def serve(page, host: str, port: int) -> None:
    """Answer with a page of Gradio until a signal comes."""
    try:
        page.launch(server_name=host, server_port=port, quiet=True, prevent_thread_lock=True, **LAUNCH)
        print(f"Running on local URL:  http://{host}:{port}", flush=True)
        page.block_thread()
    finally:
        page.close(verbose=False)


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


def watched(folders: list[str]):
    """The page that follows runs; what is wrong with its folders is said as of the flag."""
    try:
        return runs.page(folders)
    except UsageError as error:
        raise UsageError(f"--watch {error}") from None


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help=f"file of train.py or folder of a model (default: {CHECKPOINT})")
    parser.add_argument("--host", default="127.0.0.1", help="address to answer on; 0.0.0.0: to the network")
    parser.add_argument("--port", type=int, default=7860, help="port, 1 .. 65535")
    parser.add_argument("--page", nargs="?", const="", metavar="FOLDER",
                        help="the static page instead: write it into a folder, or serve it where none is given")
    parser.add_argument("--watch", nargs="+", metavar="FOLDER",
                        help="watch training instead: run folders, or folders of runs; reads their metrics.jsonl only")
    args, received = parser.parse_args(argv), []
    open_console()
    try:
        if not 1 <= args.port <= 65535:
            raise ValueError(f"--port {args.port} must be in 1 .. 65535")
        if args.watch and not all(args.watch):
            raise ValueError("--watch '' names no folder")
        if args.watch and args.page is not None:
            raise ValueError(f"--watch {args.watch[0]} and --page are two pages: choose one")
        if args.watch and args.checkpoint is not None:
            raise ValueError(f"--watch {args.watch[0]} loads no model: leave --checkpoint {args.checkpoint} out")
        if args.page and os.path.isfile(args.page):
            raise ValueError(f"--page {args.page}: it is a file, no folder")
        if not args.page:
            check_address(args.host, args.port)
        checkpoint = CHECKPOINT if args.checkpoint is None else args.checkpoint
        model = None if args.watch else WheelerTextAutoencoder.load_from_checkpoint(checkpoint)
        if model is not None and model.tokenizer is None:
            raise ValueError(f"--checkpoint {checkpoint}: it has no tokenizer")
        page = watched(args.watch) if args.watch else build(Player(model)) if args.page is None else None
        os.makedirs(TEMPORARY, mode=0o700, exist_ok=True)
        with no_proxy(), ended_by_signals() as received:
            if page is None:
                serve_page(model, args.page, args.host, args.port)
                return 0
            serve(page, args.host, args.port)
    except KeyboardInterrupt:
        return 128 + (received or [signal.SIGINT])[0]
    except (ValueError, OSError) as error:
        print(f"app.py: {complaint(error)}", file=sys.stderr)
        return 2
    return 128 + received[0] if received else 0


if __name__ == "__main__":
    sys.exit(main())
