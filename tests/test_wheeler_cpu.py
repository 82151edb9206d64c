"""wheeler_cpu.py against the plain-loop oracle, and the laws of the automaton."""

import os
import re
import subprocess
import sys

import naive
import numba
import numpy as np
import pytest
import torch

import wheeler_cpu
from wheeler.dynamics import kernels, search
from wheeler_cpu import Trajectory, WheelerMemoryCPU, tick

TIES = ["min", "max", "none"]
DTYPES = [np.float32, np.float64]
SHAPES = [(2, 2), (2, 5), (3, 3), (5, 4), (7, 16), (4, 17), (9, 33)]
JIT = not numba.config.DISABLE_JIT


def bits(array):
    array = np.ascontiguousarray(array)
    return array.view({4: np.int32, 8: np.int64}[array.itemsize])


def same(a, b):
    return a.dtype == b.dtype and np.array_equal(bits(a), bits(b))


def sample(kind, shape, dtype, seed):
    """Frames that exercise the rule: uniform, few levels (many ties), +-1, zeros of both signs and denormals."""
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        frame = rng.uniform(-1, 1, shape)
    elif kind == "levels":
        frame = rng.integers(-2, 3, shape) / 2
    elif kind == "flat":
        frame = np.full(shape, 0.25)
    elif kind == "signs":
        frame = rng.choice([-1.0, 1.0], shape)
    else:
        tiny = np.finfo(dtype).smallest_subnormal
        frame = rng.choice(np.array([0.0, -0.0, tiny, -tiny, 3 * tiny, -7 * tiny, 1, -1], dtype), shape)
    return frame.astype(dtype)


def run(frame, tie=None, max_ticks=1000, **options):
    return WheelerMemoryCPU(frame.shape[1], frame.shape[0], tie_break=tie, **options).run_dynamics(frame, max_ticks)


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_equals_the_oracle(dtype, tie):
    for seed, shape in enumerate(SHAPES if JIT else SHAPES[:4]):
        for kind in ("uniform", "levels", "signs", "tiny"):
            frame = sample(kind, shape, dtype, seed)
            state, ticks, period, history = naive.run(frame, 130, tie)
            for use_numba in (True, False):
                got = run(frame, tie, 130, use_numba=use_numba)
                assert (got.state, got.ticks, got.period) == (state, ticks, period), (shape, kind, use_numba)
                assert same(got.final_frame, history[-1]) and same(got.history, np.stack(history)), (shape, kind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rule_v03_and_every_threshold_equal_the_oracle(dtype):
    states = set()
    for seed, shape in enumerate(SHAPES if JIT else SHAPES[:4]):
        for kind in ("uniform", "levels", "signs", "tiny", "flat"):
            frame = sample(kind, shape, dtype, seed)
            for rule in ("v0.2", "v0.3"):
                for threshold in (5e-4, 1e-4, 1e-6):
                    state, ticks, period, history = naive.run(frame, 90, rule=rule, threshold=threshold)
                    for use_numba in (True, False):
                        got = run(frame, None, 90, use_numba=use_numba, rule=rule, stability_threshold=threshold)
                        assert (got.state, got.ticks, got.period) == (state, ticks, period), (shape, kind, threshold)
                        assert same(got.history, np.stack(history)) and same(got.final_frame, history[-1])
                    states.add((rule, state))
    assert {("v0.3", "DEGENERATE"), ("v0.3", "CONVERGED"), ("v0.2", "CONVERGED")} <= states
    assert ("v0.2", "DEGENERATE") not in states


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_percentile_equals_the_oracle_at_its_edges(dtype):
    """Thresholds at, just below and just above the changes on both sides of the percentile, and the percentile."""
    for seed, (h, w) in enumerate([(2, 2), (3, 5), (9, 33), (11, 16), (10, 10), (11, 11)]):
        new, old = (sample("uniform", (h, w), dtype, seed + k) for k in (0, 50))
        place, changes = 99 * (h * w - 1) // 100, np.sort(np.abs(new - old), axis=None)
        expected = naive.change_99(new, old)
        assert search.percentile_99(np.abs(new - old)) == expected
        assert expected == pytest.approx(float(np.percentile(changes.astype(np.float64), 99)), rel=1e-12)
        x, y, acc, _ = kernels.scratch(1, h, w, np.dtype(dtype))
        kernels._load(new, x, y)
        kernels._load(old, y, y)
        edges = [float(changes[place]), float(changes[place + 1]), expected, float(np.float32(expected))]
        for edge in edges:
            for threshold in (np.nextafter(edge, 0), edge, np.nextafter(edge, 3)):
                assert kernels._calm(y, x, acc, h, w, float(threshold)) == (expected < threshold)


@pytest.mark.skipif(not JIT, reason="slow in plain Python")
def test_a_64x64_frame_equals_the_oracle_under_v03():
    frame = sample("uniform", (64, 64), np.float32, 7)
    for threshold in (5e-4, 1e-6):
        state, ticks, _, history = naive.run(frame, rule="v0.3", threshold=threshold)
        got = run(frame, None, rule="v0.3", stability_threshold=threshold)
        assert got.state == state == "CONVERGED" and got.ticks == ticks and same(got.history, np.stack(history))


@pytest.mark.skipif(not JIT, reason="slow in plain Python")
def test_a_64x64_frame_equals_the_oracle():
    frame = sample("uniform", (64, 64), np.float32, 7)
    state, ticks, _, history = naive.run(frame)
    got = run(frame)
    assert got.state == state == "CONVERGED" and got.ticks == ticks and 35 <= ticks <= 60
    assert same(got.history, np.stack(history))
    assert got.final_frame.dtype == np.float32 and got.history.shape == (ticks + 1, 64, 64)


def test_scipy_agrees_about_the_roles():
    from scipy.ndimage import maximum_filter, minimum_filter

    frame = sample("levels", (12, 19), np.float32, 3)
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    lo = minimum_filter(frame, footprint=cross, mode="wrap")
    hi = maximum_filter(frame, footprint=cross, mode="wrap")
    expected = np.where(frame <= lo, -1, np.where(frame >= hi, 1, 0))
    assert np.array_equal(wheeler_cpu.roles(frame), expected) and np.array_equal(naive.roles(frame), expected)
    assert {-1, 0, 1} == set(np.unique(expected))


def test_flat_cells_follow_the_tie_break():
    flat = np.full((3, 4), 0.5, np.float32)
    assert np.all(tick(flat) == np.float32(0.5) + np.float32(-1.5) * np.float32(0.35))
    assert np.all(tick(flat, tie_break="max") == np.float32(0.5) + np.float32(0.5) * np.float32(0.35))
    zero = np.full((3, 4), -0.0, np.float32)
    assert same(tick(zero, tie_break="none"), zero)  # bit for bit, the sign of the zero too
    assert run(flat, "min").final_frame.max() < -0.99 and run(flat, "max").final_frame.min() > 0.99


@pytest.mark.parametrize("tie", TIES)
def test_symmetries_of_the_torus(tie):
    for kind in ("uniform", "levels"):
        frame = sample(kind, (8, 13), np.float32, 5)
        after = tick(frame, 3, tie)
        assert same(tick(np.roll(frame, (3, -5), (0, 1)), 3, tie), np.roll(after, (3, -5), (0, 1)))
        assert same(tick(frame[::-1], 3, tie), after[::-1]) and same(tick(frame[:, ::-1], 3, tie), after[:, ::-1])
        assert same(tick(np.rot90(frame), 3, tie), np.rot90(after)) and same(tick(frame.T, 3, tie), after.T)


def test_range_is_kept_without_the_clip():
    for dtype in DTYPES:
        one = dtype(1)
        edge = np.nextafter(one, dtype(0))
        values = np.array([-one, -edge, -0.5, 0, np.finfo(dtype).smallest_subnormal, 0.5, edge, one], dtype)
        frame = np.random.default_rng(1).choice(values, (40, 40) if JIT else (10, 10))
        for _ in range(20):
            frame = tick(frame)
            assert np.abs(frame).max() <= 1
        for _ in range(20):
            frame = tick(frame * dtype(0.999), rule="v0.3")
            assert np.abs(frame).max() <= 1


@pytest.mark.slow
@pytest.mark.skipif(not JIT, reason="two thousand million cells")
@pytest.mark.parametrize("push", [0.35, 0.57])
def test_no_float32_leaves_the_range(push):
    """Every float32 in [-1, 1]: an extremum never passes +-1, so the clip is a no-op."""

    rate = np.float32(push)

    @numba.njit(parallel=True)
    def worst():
        out = 0
        for k in numba.prange(0x3F800001):
            v = np.int32(k)
            v = np.array([v], np.int32).view(np.float32)[0]
            for s in (v, -v):
                up = s + (np.float32(1) - s) * rate
                down = s + (np.float32(-1) - s) * rate
                out += (not (s <= up <= np.float32(1))) + (not (np.float32(-1) <= down <= s))
        return out

    assert worst() == 0


@pytest.mark.parametrize("tie", TIES)
def test_maximal_independent_set_is_a_fixed_point(tie):
    board = np.where(np.indices((6, 8)).sum(0) % 2, 1.0, -1.0).astype(np.float32)
    got = run(board, tie)
    assert (got.state, got.ticks) == ("CONVERGED", 1) and same(got.final_frame, board)
    assert repr(got).startswith("Trajectory(CONVERGED, 1 tick, ")


def test_batch_equals_single_and_threads_change_nothing():
    frames = np.stack([sample("uniform", (6, 9), np.float32, s) for s in range(7)] + [np.ones((6, 9), np.float32)])
    dynamics = WheelerMemoryCPU(9, 6)
    singles = [dynamics.run_dynamics(f) for f in frames]
    before = numba.get_num_threads()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            batch = dynamics.run_dynamics(frames)
            assert len(batch) == 8 and batch.final_frame.shape == (8, 6, 9)
            for b, one in enumerate(batch):
                assert (one.ticks, one.state) == (singles[b].ticks, singles[b].state)
                assert (batch.ticks[b], batch.state[b]) == (one.ticks, one.state)
                assert same(one.final_frame, singles[b].final_frame) and same(batch.history[b], singles[b].history)
    finally:
        numba.set_num_threads(before)


def test_rule_and_threshold_reach_batches_rows_and_the_history():
    frames = np.stack([sample("uniform", (6, 9), np.float32, s) for s in range(5)] + [np.zeros((6, 9), np.float32)])
    for rule in ("v0.3", "v0.2", "v0.3"):  # in turn: the work buffers that are kept hold the rates of the last rule
        dynamics = WheelerMemoryCPU(9, 6, rule=rule, stability_threshold=1e-5)
        batch = dynamics.run_dynamics(frames)
        for b, one in enumerate(batch):
            state, ticks, period, history = naive.run(frames[b], rule=rule, threshold=1e-5)
            assert (one.state, one.ticks, one.period, one.rule) == (state, ticks, period, rule)
            assert batch.state[b] == state and same(one.history, np.stack(history))
            assert same(tick(frames[b], 2, rule=rule), history[2])
    assert list(batch.state) == ["CONVERGED"] * 5 + ["DEGENERATE"] and batch.tie_break == dynamics.tie_break == "none"
    assert WheelerMemoryCPU(9, 6).tie_break == "min" and WheelerMemoryCPU(9, 6).stability_threshold == 1e-4


def test_a_frame_with_little_in_it_is_degenerate():
    dynamics = WheelerMemoryCPU(10, 10, rule="v0.3")
    for dtype in DTYPES:
        frame = np.full((10, 10), 0.33, dtype)  # flat cells stay, and 0.33 is not beyond 0.33
        assert [dynamics.run_dynamics(frame).state, dynamics.run_dynamics(frame).ticks] == ["DEGENERATE", 3]
        assert dynamics.run_dynamics(np.full((10, 10), -0.3301, dtype)).state == "CONVERGED"
        assert dynamics.run_dynamics(frame, 2).state == "CHAOTIC"
    finals = np.zeros((2, 10, 10), np.float32)
    finals[0, 0, :5], finals[1, 0, :4] = -1, 1  # 5% are enough
    states = Trajectory(finals, finals, np.full(2, 3), np.zeros(2, int), "none", True, "v0.3").state
    assert list(states) == ["CONVERGED", "DEGENERATE"]


def test_other_projects_find_a_fast_automaton():
    assert wheeler_cpu.NUMBA_AVAILABLE is True and "NUMBA_AVAILABLE" in wheeler_cpu.__all__


def test_states():
    frame = sample("uniform", (6, 6), np.float32, 0)
    assert run(frame).state == "CONVERGED"
    short = run(frame, max_ticks=5)
    assert (short.state, short.ticks, short.period, len(short.history)) == ("CHAOTIC", 5, -1, 6)


@pytest.mark.parametrize("seed", range(6))
def test_oscillation_test_equals_the_oracle(seed):
    rng = np.random.default_rng(seed)
    maps = rng.integers(-1, 2, (20, 10, 11)).astype(np.int8)
    if seed:  # seeds 1..5: as many cells as the limit needs (2 of 110), or one less, repeat with period p
        p = seed * 2
        cells = 2 if seed % 2 else 1
        for c in range(cells):
            maps[:, c, 3] = np.resize(rng.permutation(np.resize([-1, 0, 1], p)), 20)
    first = seed * 3
    got = kernels._period(np.roll(maps, first, axis=0), first)
    assert got == naive.period(list(maps))
    if seed % 2:
        assert 0 < got <= 2 * seed


def test_history_is_the_same_whenever_it_is_read():
    frame = sample("uniform", (5, 6), np.float64, 2)
    late = run(frame)
    original = frame.copy()
    now = WheelerMemoryCPU(6, 5).run_dynamics(frame, history=True)
    frame[:] = 0
    assert same(late.history, now.history) and same(late.history[0], original)
    assert same(late.history[-1], late.final_frame) and late.history is late.history


def test_inputs_that_work_and_are_not_modified():
    frame = sample("uniform", (6, 6), np.float32, 4)
    expected = run(frame).final_frame
    locked = frame.copy()
    locked.setflags(write=False)
    wide = np.zeros((6, 12), np.float32)
    wide[:, ::2] = frame
    for given in (locked, wide[:, ::2], np.asfortranarray(frame), torch.tensor(frame, requires_grad=True),
                  torch.tensor(frame).T.contiguous().T, frame.astype(">f4")):  # fmt: skip
        values = given.detach().numpy() if hasattr(given, "detach") else given
        before = values.copy()
        got = WheelerMemoryCPU(6, 6).run_dynamics(given)
        assert same(got.final_frame, expected)
        assert np.array_equal(values, before)
    half = torch.tensor(frame).bfloat16()
    assert same(WheelerMemoryCPU(6, 6).run_dynamics(half).final_frame, run(half.float().numpy()).final_frame)
    assert same(run(frame.astype(np.float16)).final_frame, run(frame.astype(np.float16).astype(np.float32)).final_frame)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: np.where(np.arange(6) == 2, np.nan, f).astype(np.float32), "value nan at row 0, column 2"),
        (lambda f: np.where(np.arange(6) == 3, np.inf, f).astype(np.float32), "value inf"),
        (lambda f: f * np.float32(9), r"must be in \[-1, 1\]"),
        (lambda f: np.ones((6, 6), int), "dtype is int64"),
        (lambda f: f.astype(complex), "dtype is complex128"),
        (lambda f: f.astype(object), "dtype is object"),
        (lambda f: f[0], r"shape is \(6,\)"),
        (lambda f: f[None, None], r"shape is \(1, 1, 6, 6\)"),
        (lambda f: f[:5], r"takes \(6, 6\)"),
        (lambda f: np.zeros((0, 6, 6), np.float32), "0 frames"),
        (lambda f: np.stack([f, f * np.float32(np.nan)]), "of frame 1"),
        (lambda f: torch.ones(6, 6, dtype=torch.int64), "dtype is int64"),
        (lambda f: "text", "dtype is"),
    ],
)
@pytest.mark.parametrize("use_numba", [True, False])
def test_bad_input_is_a_clear_value_error(change, words, use_numba):
    with pytest.raises(ValueError, match=words):
        WheelerMemoryCPU(6, 6, use_numba).run_dynamics(change(sample("uniform", (6, 6), np.float32, 0)))


def test_bad_arguments():
    for width, height in ((1, 5), (5, 0), (2.5, 4), (-3, 4)):
        with pytest.raises(ValueError):
            WheelerMemoryCPU(width, height)
    with pytest.raises(ValueError, match="min, max, none"):
        WheelerMemoryCPU(4, 4, tie_break="left")
    for rule in ("v0.4", "", None, 0.3, ["v0.3"]):
        with pytest.raises(ValueError, match=re.escape(f"rule is {rule!r}; it must be one of v0.2, v0.3")):
            WheelerMemoryCPU(4, 4, rule=rule)
    with pytest.raises(ValueError, match="tie_break is 'min'; with rule \"v0.3\""):
        WheelerMemoryCPU(4, 4, tie_break="min", rule="v0.3")
    for threshold in (0, -1e-4, 1.01, np.nan, np.inf, "1e-4", None, True, 1j, np.zeros(1)):
        with pytest.raises(ValueError, match=re.escape(f"stability_threshold is {threshold!r}; it must be a number")):
            WheelerMemoryCPU(4, 4, stability_threshold=threshold)
    for threshold in (1, np.float32(5e-4), 1e-6):
        assert WheelerMemoryCPU(4, 4, stability_threshold=threshold).stability_threshold == float(threshold)
    for ticks in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match="max_ticks"):
            WheelerMemoryCPU(4, 4).run_dynamics(np.zeros((4, 4)), ticks)
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        tick(np.zeros((1, 4)))


def test_pictures(tmp_path):
    from PIL import Image

    one, batch = run(sample("uniform", (8, 10), np.float32, 0)), None
    image = wheeler_cpu.frame_image(np.array([[-1.0, 1.0], [0.0, np.nan]]), scale=3)
    assert image.size == (6, 6)
    colours = [image.convert("RGB").getpixel((x, y)) for x, y in ((0, 0), (5, 0), (0, 5), (5, 5))]
    assert sum(colours[0]) < sum(colours[2]) < sum(colours[1]) < sum(colours[3]) == 765
    one.save_gif(tmp_path / "a.gif")
    gif = Image.open(tmp_path / "a.gif")
    # pillow merges equal frames, so near the attractor there may be fewer pictures than ticks
    assert gif.size == (30, 24) and 10 < gif.n_frames <= one.ticks + 1
    assert one.strip(columns=4, scale=1).size == (4 * 10 + 3 * 2, 8)
    assert one._repr_png_()[:4] == b"\x89PNG" and "image/gif" in one._repr_html_()
    batch = WheelerMemoryCPU(10, 8).run_dynamics(np.stack([one.history[0], one.final_frame]))
    assert batch.strip(columns=4, scale=1).size[1] == 2 * 8 + 2 and "image/png" in batch._repr_html_()
    with pytest.raises(ValueError, match="batch of 2"):
        batch.save_gif(tmp_path / "b.gif")
    with pytest.raises(TypeError):
        len(one)
    with pytest.raises(IndexError):
        batch[2]
    assert isinstance(batch[-1], Trajectory) and "CONVERGED" in repr(batch[0])


def test_command_line(tmp_path, capsys):
    np.save(tmp_path / "f.npy", sample("uniform", (6, 7), np.float32, 1))
    paths = {name: str(tmp_path / name) for name in ("f.npy", "o.npy", "o.gif", "o.png")}
    flags = ["--out", paths["o.npy"], "--gif", paths["o.gif"], "--strip", paths["o.png"]]
    assert wheeler_cpu.main([paths["f.npy"], *flags]) == 0
    assert capsys.readouterr().out.startswith("CONVERGED  ticks ")
    assert np.load(paths["o.npy"]).shape == (6, 7)
    assert os.path.getsize(paths["o.gif"]) > 500 and os.path.getsize(paths["o.png"]) > 100
    assert wheeler_cpu.main(["--random", "0", "--rule", "v0.3", "--stability-threshold", "5e-4"]) == 0
    assert capsys.readouterr().out.startswith("CONVERGED  ticks 18 ")
    for flag in ("--out", "--gif", "--strip"):                                # the result first, then the complaint
        assert wheeler_cpu.main([paths["f.npy"], flag, str(tmp_path / "f.npy/below.png")]) == 2
        out = capsys.readouterr()
        assert out.out.startswith("CONVERGED  ticks ") and out.err.count("\n") == 1
    np.save(tmp_path / "bad.npy", np.full((4, 4), 3.0))
    (tmp_path / "no.npy").write_text("not an array")
    torn = (tmp_path / "f.npy").read_bytes().replace(b")", b" ").replace(b"}", b" ")           # a header without end
    (tmp_path / "torn.npy").write_bytes(torn)
    for argv in ([str(tmp_path / "bad.npy")], [str(tmp_path / "torn.npy")], ["missing.npy"], [],
                 [str(tmp_path / "no.npy")], [paths["f.npy"], "--max-ticks", "0"], [paths["f.npy"], "--tie-break", "x"],
                 [paths["f.npy"], "--rule", "x"], [paths["f.npy"], "--stability_threshold", "0"]):  # fmt: skip
        assert wheeler_cpu.main(argv) == 2
        out = capsys.readouterr()
        assert not out.out and out.err.count("\n") == 1 and "error:" in out.err
    with pytest.raises(SystemExit) as stop:
        wheeler_cpu.main(["--max-ticks", "many"])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not JIT, reason="this is the run without JIT")
def test_the_same_tests_pass_without_jit():
    chosen = "oracle and not 64x64 or reach or degenerate or flat or batch or symmetries or history"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", chosen]
    done = subprocess.run(command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-2000:]
