"""bench.py: the instruction counts behind the limit, and that a section prints a table and a JSON line."""

import json
import re

import numba
import numpy as np
import pytest

import bench
import wheeler_cpu


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="needs machine code")
def test_the_inner_loop_is_vectorised_and_counted():
    """The assembly of the search holds the loop that bench.py counts: vector min/max, no fused multiply-add."""
    if not re.search("znver[45]|sapphire|icelake-server|skylake-avx512|cascadelake", _host()):
        pytest.skip("the counts are for AVX-512")
    run = numba.njit(**{"error_model": "numpy", "nogil": True})(wheeler_cpu._run.py_func)  # not from the disk cache
    frame = np.zeros((64, 64), np.float32)
    run(frame, frame.copy(), *wheeler_cpu._scratch(1, 64, 64, frame.dtype), 1, True, ())
    assembly = next(iter(run.inspect_asm().values()))
    assert not re.search(r"vfn?m(add|sub)", assembly)
    loops = re.split(r"\n\.LBB", assembly)
    inner = [b for b in loops if re.search(r"vmaxps.*[zy]mm", b) and re.search(r"vmulps.*[zy]mm", b)]
    assert inner
    count = lambda pattern: len(re.findall(rf"\tv?{pattern}", inner[0]))
    two = count("(min|max|mul)ps") + count("cmp[a-z]*ps")
    assert two == bench.TWO_A_CYCLE
    four = two + count("(add|sub)ps") + count("blendmps") + len(re.findall(r"\{%k\d\}", inner[0])) - count("blendmps")
    assert four in (bench.FOUR_A_CYCLE - 1, bench.FOUR_A_CYCLE)


def _host():
    import llvmlite.binding

    return llvmlite.binding.get_host_cpu_name()


def test_sections_and_json_line(capsys):
    @bench.section
    def tiny(args):
        bench.table([("a", "b"), (1, 2)])
        return {"x": args.frames}

    try:
        assert bench.main(["tiny", "--frames", "3"]) == 0
    finally:
        del bench.SECTIONS["tiny"]
    out = capsys.readouterr().out.splitlines()
    last = json.loads(out[-1])
    assert last["tiny"] == {"x": 3}
    assert {"cpu", "cores", "commit", "numba", "torch", "numpy", "python"} <= set(last["machine"]) and out[0] == "a  b"
    with pytest.raises(SystemExit) as stop:
        bench.main(["nothing"])
    assert stop.value.code == 2


def test_best_of_and_clock():
    import time

    assert 0.002 <= bench.best_of(lambda: time.sleep(0.002), repeats=2, least=0.004) < 0.05
    assert 0.5e9 < bench.clock_hz() < 8e9
    assert bench.alu_limit(4.5e9) == pytest.approx(8e9)


@pytest.mark.slow
def test_every_section_runs(monkeypatch, capsys):
    monkeypatch.setattr(bench, "best_of", lambda function, **options: (function(), 1e-3)[1])
    assert bench.main(["--frames", "8"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["torch"]["cells_per_s_numba"] > 0 and set(last) == {"machine", *bench.SECTIONS}
