"""wheeler/measure/theory.py: structure functions, exact counts, the sampler against enumeration, the survival table."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wheeler.measure import theory
from wheeler.measure.metrics import hash_frames
from wheeler_cpu import WheelerMemoryCPU


def independent_sets(height, width):
    """All independent sets of the torus as bool arrays, by brute force over rows."""
    rows = itertools.product([False, True], repeat=width)
    rows = [r for r in rows if not any(r[j] and r[j - 1] for j in range(width))]
    for board in itertools.product(rows, repeat=height):
        if not any(a and b for i in range(height) for a, b in zip(board[i], board[i - 1])):
            yield np.array(board)


def is_maximal(cells):
    """Plain loops: every cell is set or has a set neighbour."""
    height, width = cells.shape
    for i in range(height):
        for j in range(width):
            near = cells[i - 1, j], cells[(i + 1) % height, j], cells[i, j - 1], cells[i, (j + 1) % width]
            if not cells[i, j] and not any(near):
                return False
    return True


@pytest.fixture(scope="module")
def small():
    """All maximal independent sets of the 5 x 5 torus."""
    return [cells for cells in independent_sets(5, 5) if is_maximal(cells)]


def test_structure_functions_on_every_independent_set_of_a_small_torus():
    kinds = {True: 0, False: 0}
    for cells in independent_sets(4, 4):
        frame = np.where(cells, -1.0, 1.0)
        assert theory.is_hard_square(frame)
        assert theory.is_perturbation_proof(frame) == is_maximal(cells)
        assert theory.structure(frame)["plus_without_minus"] == 0 or not is_maximal(cells)
        kinds[is_maximal(cells)] += 1
    assert kinds[True] > 10 and kinds[False] > 100
    two = np.ones((4, 4))
    two[1, 1] = two[1, 2] = -1
    assert not theory.is_hard_square(two) and theory.structure(two)["minus_touching_minus"] == 2 / 16
    assert not theory.is_perturbation_proof(np.full((4, 4), 0.5)) and not theory.is_hard_square(np.full((4, 4), 0.5))


def test_fixed_points():
    proof = theory.sample_proof(6, 8, sweeps=2)[0]
    assert all(theory.is_fixed_point(proof, tie) for tie in ("min", "max", "none"))
    flat = np.ones((4, 4), np.float32)
    assert not theory.is_fixed_point(flat, "min") and theory.is_fixed_point(flat, "max")
    assert not theory.is_fixed_point(proof * np.float32(0.5))


def test_growth_rates_count_what_enumeration_counts():
    """The trace of the m-th power of a transfer matrix counts tori; the growth rate bounds it and is near it."""
    for kind, keep in (("hard square", lambda c: True), ("perturbation-proof", is_maximal)):
        count = sum(1 for cells in independent_sets(5, 5) if keep(cells))
        rate = theory.growth_rate(5, kind)
        assert rate**5 * 0.2 < count < rate**5 * 5
    assert theory.growth_rate(7, "signs") == 128


def test_capacity_numbers():
    assert theory.bits_per_cell("hard square") == pytest.approx(0.5879, abs=2e-4)  # the hard-square entropy constant
    assert theory.bits_per_cell("perturbation-proof") == pytest.approx(0.325, abs=1e-3)
    assert theory.capacity_bits(64, 64, "signs") == 4096
    assert 1325 < theory.capacity_bits(64, 64) < 1337 and 2400 < theory.capacity_bits(64, 64, "hard square") < 2412
    for bad in (("other", 5), ("signs", 2)):
        with pytest.raises(ValueError):
            theory.growth_rate(*bad)


def test_sampler_is_uniform_over_all_maximal_independent_sets(small):
    index = {cells.tobytes(): k for k, cells in enumerate(small)}
    draws = 40 * len(small)
    rng = np.random.default_rng(0)
    cells, hits = small[0].copy(), np.zeros(len(small))
    for _ in range(draws):
        theory.sweep_proof(cells, rng, 1)
        hits[index[cells.tobytes()]] += 1
    chi2 = ((hits - 40) ** 2 / 40).sum()
    spread = np.sqrt(2 * (len(small) - 1))
    assert len(small) > 50 and abs(chi2 - (len(small) - 1)) < 5 * spread, (chi2, len(small))


def test_samples_are_what_they_claim():
    proof = theory.sample_proof(16, 20, seed=1, sweeps=5, count=3)
    assert proof.dtype == np.float32 and proof.shape == (3, 16, 20) and not np.array_equal(proof[0], proof[1])
    assert all(theory.is_perturbation_proof(f) for f in proof)
    assert np.array_equal(proof, theory.sample_proof(16, 20, seed=1, sweeps=5, count=3))
    hard = theory.sample_hard_square(16, 20, seed=1, count=40)
    assert all(theory.is_hard_square(f) and not theory.is_perturbation_proof(f) for f in hard)
    assert (hard < 0).mean() == pytest.approx(0.2266, abs=0.008)  # density of the hard-square gas at fugacity 1
    with pytest.raises(ValueError):
        theory.sample_proof(4, 9)


def test_hard_square_sampler_is_uniform():
    sets = [c.tobytes() for c in independent_sets(3, 4)]
    drawn = theory.sample_hard_square(3, 4, seed=2, sweeps=30, count=60 * len(sets))
    counts = {}
    for frame in drawn:
        key = (frame < 0).tobytes()
        counts[key] = counts.get(key, 0) + 1
    chi2 = sum((counts.get(k, 0) - 60) ** 2 / 60 for k in sets)
    assert set(counts) <= set(sets) and abs(chi2 - (len(sets) - 1)) < 5 * np.sqrt(2 * len(sets))


def test_survival_table_and_figure(tmp_path):
    table, drawn = theory.survival(patterns=3, size=32, amplitudes=(0.1, 0.9))
    for tie in ("min", "max", "none"):
        for amplitude in (0.1, 0.9):
            assert table["perturbation-proof", tie, amplitude] == 1
            assert 0.6 < table["signs", tie, amplitude] < 0.8 < table["hard square", tie, amplitude] < 0.97
    theory.survival_figure(table, drawn, tmp_path)
    assert (tmp_path / "survival.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="amplitude"):
        theory.noisy(drawn["signs"], 1.0, np.random.default_rng(0))


def test_fidelity_of_hash_frames_and_of_proof_frames():
    frames = hash_frames(["a", "b"], 32, 40)
    assert frames.shape == (2, 32, 40) and frames.dtype == np.float32 and np.abs(frames).max() <= 1
    assert np.array_equal(frames[1], hash_frames(["b"], 32, 40)[0]) and not np.array_equal(*frames)
    settled = WheelerMemoryCPU(40, 32, rule="v0.3").run_dynamics(frames).final_frame
    for attractors, low, high in ((settled, 0.80, 0.90), (theory.sample_proof(32, 40, seed=0, count=2), 0.91, 0.96)):
        found = theory.fidelity(attractors)
        assert list(found) == [0.1, 0.25, 0.5, 0.75, 1.0] and low < np.mean(list(found.values())) < high
        assert theory.fidelity(attractors, (0.0,))[0.0] > 0.99 and found == theory.fidelity(attractors)


def test_noise_up_to_the_sign_never_breaks_a_proof_pattern():
    proof = theory.sample_proof(12, 13, seed=3, sweeps=5, count=20)
    rng = np.random.default_rng(0)
    extreme = proof * np.float32(1e-30) * rng.random(proof.shape, np.float32).clip(1e-3)
    for tie in ("min", "max", "none"):
        final = WheelerMemoryCPU(13, 12, tie_break=tie).run_dynamics(extreme.astype(np.float32)).final_frame
        assert np.array_equal(final < 0, proof < 0)


def test_command_line(tmp_path, capsys):
    assert theory.main(["--size", "12", "--out", str(tmp_path / "a.npy")]) == 0
    assert theory.is_perturbation_proof(np.load(tmp_path / "a.npy"))
    root = Path(theory.__file__).parents[2]
    for bad in (["--size", "3", "--out", "x.npy"], ["--size", "2x", "--out", "x.npy"], []):
        done = subprocess.run([sys.executable, "-m", "wheeler.measure.theory", *bad], capture_output=True, text=True,
                              cwd=root)
        assert done.returncode == 2 and "error" in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1
