"""Tables render from results alone, and a bar that does not hold says so."""

import json

import numpy as np

from bench import report
from bench.bars import EXACT, FUSED, QCDQ, QONNX, bars
from bench.contestants import CHECKED, STEPWISE
from bench.environment import environment
from bench.timing import Timing, take_turns


def timed(ms, **more):
    return {"cpu_ms": ms, "cpu_min_ms": ms, "wall_ms": ms, "runs": 3, "gmacs": 1.0, **more}


def entry(name, ms, **more):
    return {"name": name, "kind": "peer", **timed(ms), "events": None, "differs": 0.0, "distance": 0, **more}


def results():
    rows = [
        entry(FUSED, 20.0), entry(QCDQ, 50.0), entry(QONNX, 400.0), entry(EXACT, 31.0, events=0),
        entry("intsim saturate-16, counts", 150.0, events=7, differs=0.5, distance=9),
        {"name": "intsim saturate-16, no counts", "kind": "target", "reason": "no option counts"},
        entry(CHECKED, 10.0, target="saturate-22", events=0, checked=3),
        entry(STEPWISE, 50.0, target="saturate-22", events=0),
    ]  # fmt: skip
    isa = [
        {"network": "unet", "title": "this processor", **timed(30.0, digest="a")},
        {"network": "unet", "title": "AVX2 (haswell)", **timed(80.0, digest="a")},
        {"network": "unet", "title": "SSE2 (x86-64)", **timed(800.0, digest="b")},
    ]
    grown = [
        {"kind": "unet, image side", "network": "unet", "macs": m, "intsim": timed(t), "fused": timed(t)}
        for m, t in ((1e9, 10.0), (4e9, 48.0))
    ]
    remembered = [
        {"network": "unet", "name": EXACT, "layer": 4 << 20, "whole": 60 << 20, "code": 10 << 20, "run": 20 << 20},
        {"network": "unet_2", "name": EXACT, "layer": 8 << 20, "whole": 68 << 20, "code": 10 << 20, "run": 20 << 20},
        {"network": "unet_4", "name": EXACT, "layer": 16 << 20, "whole": 90 << 20, "code": 10 << 20, "run": 20 << 20},
        {"network": "unet", "name": QONNX, "layer": 4 << 20, "whole": 340 << 20, "code": 40 << 20, "run": 300 << 20},
    ]
    peers = [
        {"peer": "LiteRT XNNPACK", "network": "unet", "macs": 1e9, **timed(17.0), "differs": 0.1, "distance": 1},
        {"peer": "TOSA", "network": "conv", "macs": 1e9, "reason": "not installed: no network"},
    ]
    proofs = [
        {"network": f"conv{n}", "macs": 1e8, "target": "saturate-20", "proven": not t, "same": True,
         "checked": timed(2.0), "stepwise": timed(t or 2.0)}
        for n, t in ((0, 16.0), (1, 6.0), (2, 0))
    ]  # fmt: skip
    beside = [
        {
            "name": "vit_64",
            "intsim_ms": 4.0,
            "ort_ms": 2.0,
            "ratio": 2.0,
            "ratio_of_least": 1.9,
            "kinds": [["a", 1.0, 2]],
        },
        {"name": "swin_64", "reason": "it broke"},
    ]
    took = {k: {"cpu_ms": v, "cpu_min_ms": v} for k, v in (("load", 9.0), ("run", 2.0), ("qonnx", 30.0))}
    slow = {
        k: {"cpu_ms": v, "cpu_min_ms": v} for k, v in (("certify", 4999.0), ("sweep one", 3.0), ("sweep nine", 8001.0))
    }
    proving = [
        {"network": "cnv", **took},
        {"network": "resnet18", **took, **slow},
        {"network": "lfc", "reason": "none"},
    ]
    return {
        "environment": {**environment(), "quick": True},
        "sections": {
            "architectures": {"rows": beside},
            "proving": {"target": "x86-avx2", "rows": proving},
            "unet": {"macs": 4.7e9, "rows": rows}, "mlp1": {"reason": "it broke"}, "peers": {"rows": peers},
            "growth": {"rows": grown}, "memory": {"rows": remembered}, "instruction sets": {"rows": isa},
            "overflow_check": {"rows": proofs},
            "threads": {"cores": 2, "rows": [{"network": "unet", "threads": 2, "reason": "no"}]},
            "start": {"imports_s": 1.0, "first_s": 2.6, "verdict_s": 5.0, "starts": 3},
        },
    }  # fmt: skip


def by_text(found):
    return {b.text: b for b in found if b.network != "mlp1"}


def test_bars_hold_or_not():
    found = by_text(bars(results()))
    assert found["exact / ORT on QCDQ, all optimisations"].holds is True
    assert found["exact / ORT fully fused int8"].holds is False
    np.testing.assert_allclose(found["exact / ORT fully fused int8"].value, 1.55)
    assert found["qonnx execute_onnx / exact"].holds is True
    assert found["peak memory, exact / qonnx"].holds is True
    np.testing.assert_allclose(found["peak memory without compiled code, exact / qonnx"].value, 50 / 300)
    assert found["saturate-16, counts / ORT fully fused int8"].holds is False
    missing = found["saturate-16, no counts / ORT fully fused int8"]
    assert (missing.value, missing.holds) == (None, None)
    assert "no option counts" in missing.why
    assert found["stepwise / checked, 2 bits above the peak, no counts"].holds is True
    layers = found["stepwise / checked, 2 bits above the peak, no counts, single layers"]
    assert (layers.value, layers.holds) == (3.0, False)
    assert found["exact, AVX2 (haswell) / this processor"].holds is True
    grown = found["peak memory growth, unet_4 / before"]
    np.testing.assert_allclose(grown.value, (22 / 8) / (8 / 4))
    assert grown.holds is False
    assert found["exact, SSE2 (x86-64)"].holds is False
    assert found["time per MAC, image side x1 to x4, greatest / least"].holds is True
    assert found["intsim verify to its first output / import numpy, onnx, numba"].holds is False


def test_a_check_with_another_verdict_breaks_its_bar():
    changed = results()
    row = next(r for r in changed["sections"]["unet"]["rows"] if r["name"] == CHECKED)
    row["events"] = 3
    assert by_text(bars(changed))["stepwise / checked, 2 bits above the peak, no counts"].holds is False


def test_one_other_verdict_breaks_the_bar_of_layers():
    changed = results()
    changed["sections"]["overflow_check"]["rows"][1]["stepwise"]["cpu_ms"] = 20.0
    text = "stepwise / checked, 2 bits above the peak, no counts, single layers"
    assert by_text(bars(changed))[text].holds is True
    changed["sections"]["overflow_check"]["rows"][0]["same"] = False
    assert by_text(bars(changed))[text].holds is False


def test_no_certificate_is_no_bar():
    changed = results()
    row = next(r for r in changed["sections"]["unet"]["rows"] if r["name"] == CHECKED)
    row["checked"] = 0
    assert by_text(bars(changed))["stepwise / checked, 2 bits above the peak, no counts"].holds is None


def test_the_page_renders_from_json_alone():
    page = report.page(json.loads(json.dumps(results())))
    for title in ("Machine", "Asked and measured", "Whole networks", "Growth", "Memory", "Start", "Threads"):
        assert f"## {title}" in page
    assert "**no**" in page
    assert "not installed: no network" in page
    assert "| vit_64 | 4.00 | 2.00 | ≤ 2.5 | 2.00 yes |" in page
    assert "| resnet18 | 9.00 (9.00) | 2.00 (2.00) | 15.0 **no** | 4999 (4999) yes | 8001 (8001) **no** |" in page
    for block in page.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block


def test_a_page_of_nothing_renders():
    assert "Machine" in report.page({"environment": environment(), "sections": {}})


def test_the_committed_page_names_no_path_of_its_host():
    if report.PAGE.is_file():
        assert str(report.ROOT) not in report.PAGE.read_text()


def test_turns():
    seen = []
    timings = take_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 0.0, least=3, most=5)
    assert [len(timings[n].cpu) for n in "ab"] == [5, 5]
    assert seen[0] == "a"
    assert "b" in seen
    timing = Timing([0.001, 0.003, 0.002], [0.002, 0.004, 0.003])
    assert timing.to_json() == {"cpu_ms": 2.0, "cpu_min_ms": 1.0, "wall_ms": 3.0, "runs": 3}
