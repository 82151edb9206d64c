"""Structure and capacity of frames under the Wheeler dynamics: what survives, how much of it there is, how to draw it.

    python -m wheeler.measure.theory --seed 0 --out frame.npy    # a uniform perturbation-proof frame
    python bench.py survival                                     # which patterns survive noise
    python bench.py capacity                                     # bits a cell, by transfer matrices

A pattern is a frame of exactly +-1; its -1 cells are a set of points on the H x W torus. Every fixed point is a pattern
(not every pattern one: with tie-break "min" a +1 cell among +1 cells is flat and falls).

    hard square          no two -1 cells are neighbours
    perturbation-proof   hard square, and every +1 cell has a -1 neighbour: a maximal independent set of the torus

Why the second kind survives all noise that keeps every sign: a -1 cell has only +1 neighbours, so it stays a minimum;
a +1 cell has a -1 neighbour, so it never is the minimum, and rises. No tie can occur, so all tie-breaks agree. Without
the first property a -1 cell can be a slope and climb, without the second a +1 cell can be a minimum and fall.
"""

import argparse
import sys

import numpy as np

from wheeler.cli import Parser, complaint
from wheeler.dynamics.compiled import jit
from wheeler.figures import new_figure, save_figure
from wheeler_cpu import WheelerMemoryCPU, frame_image, tick

KINDS = ("signs", "hard square", "perturbation-proof")


def _minus(frame):
    """Bool (..., H, W), where the cell is -1; None if the frame is not a +-1 pattern."""
    frame = np.asarray(frame)
    return frame == -1 if bool(np.all(np.abs(frame) == 1)) else None


def _touches(minus):
    """Number of -1 neighbours of every cell (..., H, W)."""
    return sum(np.roll(minus, shift, axis).astype(int) for axis in (-2, -1) for shift in (1, -1))


def is_fixed_point(frame, tie_break="min"):
    """Whether one tick leaves every bit of frame (H, W) or frames (B, H, W) as it is."""
    return bool(np.array_equal(tick(frame, 1, tie_break), np.asarray(frame)))


def is_hard_square(frame):
    """Whether the frame is a +-1 pattern without two neighbouring -1 cells."""
    minus = _minus(frame)
    return minus is not None and not bool(np.any(minus & (_touches(minus) > 0)))


def is_perturbation_proof(frame):
    """Whether the -1 cells are a maximal independent set: the pattern survives any noise that keeps every sign."""
    minus = _minus(frame)
    return is_hard_square(frame) and bool(np.all(minus | (_touches(minus) > 0)))


def structure(frame):
    """Shares that say how far a pattern or attractor (H, W), read by its signs, is from perturbation-proof.

    Returns a dict: minus (share of -1 cells), minus_touching_minus, plus_without_minus (both shares of all cells).
    """
    minus = np.asarray(frame) < 0
    touches = _touches(minus)
    return {
        "minus": float(minus.mean()),
        "minus_touching_minus": float((minus & (touches > 0)).mean()),
        "plus_without_minus": float((~minus & (touches == 0)).mean()),
    }


# ------------------------------------------------------------------------------------------------------------ capacity


def _ring_states(n):
    """Bit masks of the independent sets of a ring of n cells, and a function that rotates masks by one both ways."""
    full = (1 << n) - 1
    masks = np.arange(full + 1)
    turn = lambda m: ((m << 1) | (m >> (n - 1))) & full, lambda m: ((m >> 1) | (m << (n - 1))) & full
    return masks[(masks & turn[0](masks)) == 0], turn, full


def growth_rate(n, kind):
    """Largest eigenvalue of the transfer matrix of `kind` on an n-wide ring: patterns of m rows grow as rate ** m.

    kind: "signs", "hard square" or "perturbation-proof"; n at least 3. For the last kind a state is a row and the set
    of its cells that neither it nor the row before dominates: the next row must hold these and may hold more.
    """
    from scipy.sparse import csr_matrix  # slow to import, and only this needs it
    from scipy.sparse.linalg import eigs

    if kind not in KINDS or n < 3:
        raise ValueError(f"kind is {kind!r} and n {n}; kind must be one of {KINDS}, n at least 3")
    if kind == "signs":
        return 2.0**n
    rows, turn, full = _ring_states(n)
    if kind == "hard square":
        return float(np.linalg.eigvalsh((rows[:, None] & rows[None]) == 0)[-1])
    index, todo, sources, targets = {(0, 0): 0}, [(0, 0)], [], []
    while todo:
        row, open_cells = todo.pop()
        follow = rows[((rows & row) == 0) & ((rows & open_cells) == open_cells)]
        left = full & ~(follow | turn[0](follow) | turn[1](follow) | row)
        for state in zip(follow.tolist(), left.tolist()):
            if state not in index:
                index[state] = len(index)
                todo.append(state)
            sources.append(index[row, open_cells])
            targets.append(index[state])
    matrix = csr_matrix((np.ones(len(sources)), (sources, targets)), shape=(len(index),) * 2)
    if len(index) < 200:
        return float(np.abs(np.linalg.eigvals(matrix.toarray())).max())
    return float(np.abs(eigs(matrix, k=1, which="LM", return_eigenvectors=False, v0=np.ones(len(index)))[0]))


def bits_per_cell(kind, n=10):
    """log2(growth_rate) / n: bits a cell on an endless ring n wide. At n = 10 within 0.0005 of the plane."""
    return float(np.log2(growth_rate(n, kind)) / n)


def capacity_bits(height, width, kind="perturbation-proof", n=10):
    """Bits that a frame of this size can hold in patterns of `kind`."""
    return bits_per_cell(kind, n) * height * width


# ------------------------------------------------------------------------------------------------------------ sampling


@jit
def _draw(weights, uniform):
    """Index drawn with probability proportional to weights; never one of weight 0."""
    mark, last = uniform * weights.sum(), 0
    for k in range(len(weights)):
        if weights[k] > 0:
            last = k
            mark -= weights[k]
            if mark < 0:
                break
    return last


@jit
def _resample_strip(cells, top, k, uniforms):
    """Draw rows top .. top + k - 1 of cells (H, W), bool, True for -1, uniformly given all other rows, in place.

    A column c_j of the strip is a k-bit mask (bit 0 the top). Its triple (c_{j-1}, c_j, c_{j+1}) is allowed if no two
    neighbours are set and every unset cell of column j has a set neighbour; the fixed cells above and below may need
    one too (H >= k + 2). Summing from the last column back, for every choice p of the first two columns, gives the
    number of completions; then columns are drawn from the first on. uniforms (W,) in [0, 1).
    """
    h, w = cells.shape
    full = (1 << k) - 1
    masks = np.array([c for c in range(full + 1) if not c & (c << 1)])
    size = len(masks)
    ok = np.zeros((w, size), np.bool_)  # column j may be masks[b], as far as column j and the fixed rows can tell
    need = np.zeros((w, size), np.int64)  # cells of column j that a neighbour column must dominate
    above, above2 = (top - 1) % h, (top - 2) % h
    below, below2 = (top + k) % h, (top + k + 1) % h
    for j in range(w):
        left, right = (j - 1) % w, (j + 1) % w
        want_top = not (cells[above, j] or cells[above2, j] or cells[above, left] or cells[above, right])
        want_low = not (cells[below, j] or cells[below2, j] or cells[below, left] or cells[below, right])
        for b in range(size):
            c = masks[b]
            clash = (c & 1 and cells[above, j]) or (c >> (k - 1) and cells[below, j])
            if clash or (want_top and not c & 1) or (want_low and not c >> (k - 1)):
                continue
            ok[j, b] = True
            done = c | (c << 1) | (c >> 1)
            if cells[above, j]:
                done |= 1
            if cells[below, j]:
                done |= 1 << (k - 1)
            need[j, b] = full & ~done

    def fits(j, a, b, c):  # the triple (masks[a], masks[b], masks[c]) around column j
        left, here, right = masks[a], masks[b], masks[c]
        clash = left & here or here & right or need[j, b] & ~(left | right)
        return not clash and ok[j - 1, a] and ok[j, b] and ok[(j + 1) % w, c]

    ways = np.zeros((w + 1, size, size, size * size))  # [j, c_{j-1}, c_j, p]: completions of columns j + 1 .. w - 1
    for p in range(size * size):
        for a in range(size):
            if fits(0, a, p // size, p % size):
                ways[w, a, p // size, p] = 1
    for j in range(w - 1, 0, -1):
        for a in range(size):
            for b in range(size):
                for c in range(size):
                    if fits(j, a, b, c):
                        for p in range(size * size):
                            ways[j, a, b, p] += ways[j + 1, b, c, p]
        ways[j] /= ways[j].max()
    weights = np.array([ways[1, p // size, p % size, p] for p in range(size * size)])
    p = _draw(weights, uniforms[0])
    columns = np.zeros(w, np.int64)
    columns[0], columns[1] = p // size, p % size
    for j in range(1, w - 1):
        a, b = columns[j - 1], columns[j]
        weights = np.array([ways[j + 1, b, c, p] if fits(j, a, b, c) else 0.0 for c in range(size)])
        columns[j + 1] = _draw(weights, uniforms[j])
    for j in range(w):
        for i in range(k):
            cells[(top + i) % h, j] = (masks[columns[j]] >> i) & 1


def _greedy(height, width, rng):
    """A maximal independent set of the torus, cells taken in random order: not uniform, a place to start."""
    cells = np.zeros((height, width), bool)
    for i, j in zip(*np.unravel_index(rng.permutation(height * width), cells.shape)):
        near = cells[i - 1, j], cells[(i + 1) % height, j], cells[i, j - 1], cells[i, (j + 1) % width]
        cells[i, j] = not any(near)
    return cells


def sample_proof(height=64, width=64, seed=0, sweeps=30, count=1):
    """Uniform perturbation-proof frames (count, H, W) float32, H, W >= 5.

    Gibbs sampling by strips: four whole rows, or columns, are drawn exactly given all others (_resample_strip), at
    random places, `sweeps` times the number that covers the frame; each of the `count` frames is a chain of its own.
    Exact in the limit; from a random or a checkerboard start the density settles within 5 sweeps. Checked against
    enumeration in the tests.
    """
    if min(height, width) < 5:
        raise ValueError(f"height x width is {height} x {width}; both must be at least 5")
    rng = np.random.default_rng(seed)
    out = np.empty((count, height, width), np.float32)
    for frame in out:
        cells = _greedy(height, width, rng)
        sweep_proof(cells, rng, sweeps)
        frame[:] = np.where(cells, -1, 1)
    return out


def sweep_proof(cells, rng, sweeps):
    """`sweeps` sweeps of the sampler over cells (H, W) bool, a maximal independent set, in place."""
    height, width = cells.shape
    for _ in range(sweeps * -(-max(height, width) // 4)):
        for view in (cells, cells.T):
            k = min(4, view.shape[0] - 2)  # the rows above and below the strip must differ
            strip = np.ascontiguousarray(view)
            _resample_strip(strip, rng.integers(view.shape[0]), k, rng.random(view.shape[1]))
            view[:] = strip


@jit
def _glauber(cells, places, coins):
    """Heat bath of the hard-square model: at each place set the cell to the coin if no neighbour is set, else clear."""
    h, w = cells.shape
    for place, coin in zip(places, coins):
        i, j = place // w, place % w
        near = cells[i - 1, j] or cells[(i + 1) % h, j] or cells[i, j - 1] or cells[i, (j + 1) % w]
        cells[i, j] = coin and not near


def sample_hard_square(height=64, width=64, seed=0, sweeps=200, count=1):
    """Uniform hard-square frames (count, H, W) float32, by single-cell heat bath (fugacity 1, which mixes fast)."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, height, width), np.float32)
    for frame in out:
        cells = np.zeros((height, width), bool)
        n = sweeps * height * width
        _glauber(cells, rng.integers(0, height * width, n), rng.random(n) < 0.5)
        frame[:] = np.where(cells, -1, 1)
    return out


# ------------------------------------------------------------------------------------------------------------ survival


def noisy(pattern, amplitude, rng):
    """The pattern with every cell pulled towards 0 by up to `amplitude` < 1, uniformly: no sign changes. float32."""
    if not 0 <= amplitude < 1:
        raise ValueError(f"amplitude is {amplitude}; it must be in [0, 1) so that no sign changes")
    return (pattern * (1 - amplitude * rng.random(pattern.shape))).astype(np.float32)


def survival(patterns=20, size=64, amplitudes=(0.1, 0.5, 0.9), ties=("min", "max", "none"), seed=0):
    """Share of cells with the right sign after noise and the dynamics: {(kind, tie, amplitude): mean share}."""
    rng = np.random.default_rng(seed)
    drawn = {
        "signs": rng.choice(np.array([-1, 1], np.float32), (patterns, size, size)),
        "hard square": sample_hard_square(size, size, seed, count=patterns),
        "perturbation-proof": sample_proof(size, size, seed, count=patterns),
    }
    table = {}
    for kind, frames in drawn.items():
        for amplitude in amplitudes:
            start = noisy(frames, amplitude, rng)
            for tie in ties:
                final = WheelerMemoryCPU(size, size, tie_break=tie).run_dynamics(start).final_frame
                table[kind, tie, amplitude] = float(((final < 0) == (frames < 0)).mean())
    return table, drawn


def returned(attractors, strength, rng, rule="v0.3"):
    """What attractors (B, H, W), float32 in [-1, 1], come to, float32, after Gaussian noise of this strength (standard
    deviation), the disturbed frame being clipped to [-1, 1] and settled under the rule. ValueError for bad frames."""
    dynamics = WheelerMemoryCPU(attractors.shape[2], attractors.shape[1], rule=rule)
    hurt = np.clip(attractors + strength * rng.standard_normal(attractors.shape), -1, 1).astype(np.float32)
    return dynamics.run_dynamics(hurt).final_frame


def likeness(frames, others):
    """Mean Pearson correlation of frames (B, H, W) with others of the same shape, pair by pair; none is constant."""
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(frames, others, strict=True)]))


def fidelity(attractors, strengths=(0.1, 0.25, 0.5, 0.75, 1.0), rule="v0.3", seed=0):
    """How well attractors come back from noise of these strengths: {strength: likeness}; see `returned`."""
    rng = np.random.default_rng(seed)
    return {strength: likeness(attractors, returned(attractors, strength, rng, rule)) for strength in strengths}


def survival_figure(table, drawn, output_dir, amplitude=0.9, crop=32):
    """Draw the table, and of each kind a pattern, its noisy version and what the dynamics make of it, to
    survival.png."""
    rng = np.random.default_rng(1)
    figure = new_figure(11, 7.6)
    axes = figure.subplots(3, 4, width_ratios=[1, 1, 1, 1.25])
    titles = "pattern", f"noise {amplitude}, no sign changed", "after the dynamics, wrong cells red"
    for row, (kind, frames) in zip(axes, drawn.items()):
        start = noisy(frames[0], amplitude, rng)
        size = start.shape[0]
        final = WheelerMemoryCPU(size, size).run_dynamics(start).final_frame
        for axis, frame in zip(row, (frames[0], start, final)):
            picture = np.array(frame_image(frame[:crop, :crop], 1).convert("RGB"))
            if frame is final:
                picture[((final < 0) != (frames[0] < 0))[:crop, :crop]] = (214, 40, 57)
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(kind, fontsize=11)
        amplitudes = sorted({a for _, _, a in table})
        for tie, style in zip(dict.fromkeys(t for _, t, _ in table), ("-o", "--s", ":^")):
            shares = [100 * table[kind, tie, a] for a in amplitudes]
            row[3].plot(amplitudes, shares, style, label=f'tie-break "{tie}"', color="#2e5e8c", markersize=4)
        row[3].set(ylim=(50, 103), xlim=(0, 1), ylabel="cells right, %")
        row[3].yaxis.tick_right()
        row[3].yaxis.set_label_position("right")
        row[3].grid(alpha=0.3)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    axes[0, 3].legend(fontsize=8, loc="lower left")
    axes[2, 3].set_xlabel("noise amplitude")
    save_figure(figure, output_dir, "survival", dpi=90)


# ----------------------------------------------------------------------------------------------------------------- CLI


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help=".npy file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="height and width (default 64)")
    args = parser.parse_args(argv)
    try:
        frame = sample_proof(args.size, args.size, args.seed)[0]
        print(f"{args.size}x{args.size}, {structure(frame)['minus']:.3f} of the cells at -1", flush=True)
        np.save(args.out, frame)
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: error: {complaint(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
