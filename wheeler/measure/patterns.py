"""Structure of frames: the sections survival and capacity of bench.py, tables of theory.py."""

import numpy as np

from wheeler.measure import theory
from wheeler.measure.metrics import hash_frames
from wheeler.measure.timing import table
from wheeler_cpu import WheelerMemoryCPU


def survival(args):
    """Which patterns survive noise that changes no sign; a figure. Which come back from noise that changes signs."""
    size = args.grid_size or 64
    amplitudes = (0.1, 0.3, 0.5, 0.7, 0.9)
    shares, drawn = theory.survival(args.patterns, size, amplitudes, seed=args.seed)
    table([("pattern", "tie-break", *(f"A = {a}" for a in amplitudes)),
           *((kind, tie, *(f"{shares[kind, tie, a]:.2%}" for a in amplitudes))
             for kind, tie in dict.fromkeys((k, t) for k, t, _ in shares))])
    frames = hash_frames([f"text {i}" for i in range(args.patterns)], size, size)
    settled = WheelerMemoryCPU(size, size, rule="v0.3").run_dynamics(frames).final_frame
    returned = {name: theory.fidelity(attractors, seed=args.seed) for name, attractors in (
        ("hash frames", settled), ("perturbation-proof", drawn["perturbation-proof"]))}
    table([('fidelity, rule "v0.3"', *(f"noise {s}" for s in returned["hash frames"]), "mean"),
           *((name, *(f"{value:.3f}" for value in row.values()), f"{np.mean(list(row.values())):.3f}")
             for name, row in returned.items())])
    theory.survival_figure(shares, drawn, args.output_dir)
    return {f"{kind}, {tie}, {a}": value for (kind, tie, a), value in shares.items()} | {
        f"{name}, fidelity, {s}": value for name, row in returned.items() for s, value in row.items()}


def capacity(args):
    """Bits a cell by transfer matrices, by width of the ring."""
    out = {n: {kind: theory.bits_per_cell(kind, n) for kind in theory.KINDS} for n in range(4, args.widest + 1)}
    frame = {kind: theory.capacity_bits(64, 64, kind, args.widest) for kind in theory.KINDS}
    table([("bits a cell, ring", *theory.KINDS),
           *((n, *(f"{row[kind]:.5f}" for kind in theory.KINDS)) for n, row in out.items()),
           ("bits, 64x64", *(f"{frame[kind]:.0f}" for kind in theory.KINDS))])
    return {"bits_per_cell": out, "bits_64x64": frame}
