import copy
import json
import math
import random
import re

import numpy as np
import pytest

from intsim.errors import IntsimError
from models.study import plots, report, sections
from models.study.ideal import channel_table
from models.study.plots import draw
from models.study.records import read
from models.study.tables import ACCURACY, ERROR, Figure, deviation, markdown, number, span

NETWORKS = {
    **{f"p{order}": {"order": order} for order in range(5)},
    "c1": {"order": 1, "dimensions": 3},
    "c2": {"order": 2, "dimensions": 3},
    "p0_still": {"order": 0, "noise": 0.0},
    "p3_still": {"order": 3, "noise": 0.0},
    "p3_guide": {"order": 3, "guide": True},
    "dpt_p0": {"order": 0, "family": "dpt"},
    "dpt_p3": {"order": 3, "family": "dpt"},
    "q_p0_w4a4": {"order": 0, "noise": 0.0},
    "q_p3_w4a4": {"order": 3, "noise": 0.0},
    "first_embedding": {"order": 3, "embedding": 4},
    "first_float": {"order": 3, "noise": 0.0},
    "long_p0": {"order": 0},
    "long_p3": {"order": 3},
}
KEYS = [figure.key for figure in ACCURACY], [figure.key for figure in ERROR]


def fabricated(recipe, seed, attributes):
    """A results file's content with made-up figures, all of them different."""
    rng = random.Random(f"{recipe} {seed}")
    start = 1 + attributes["order"]
    decoders = ["nearest"] + (["masked"] if attributes["order"] else []) + (["weight"] if "guide" in attributes else [])

    def entry(precision, target, decoder):
        accuracy = {key: round(rng.uniform(0.01, 0.9), 5) for key in (*KEYS[0], "bad3", "epe_median")}
        made = {"precision": precision, "target": target, "decoder": decoder, "accuracy": accuracy}
        made["coverage"] = 0.75 if decoder == "masked" else 1.0
        if precision != "fp32":
            made["error"] = {key: round(rng.uniform(0.3, 0.9) / start, 6) for key in KEYS[1]}
        return made

    name = "w4a4" if recipe.endswith("w4a4") else "w8a8"
    ways = [("fp32", None), ("w8a8-cpu", None), (name, "exact"), (name, "x86-avx2")]
    entries = [entry(*way, decoder) for decoder in decoders for way in ways]
    return {
        "run": f"{recipe}_s{seed}",
        "recipe": recipe,
        "seed": seed,
        "family": "dispnet",
        "dimensions": 2,
        "guide": False,
        "noise": 0.1,
        "inputs": "cost-volume",
        "embedding": 0,
        **attributes,
        "parameters": rng.randrange(1000, 9999999),
        "training": {"steps": 2000, "seconds": rng.uniform(50, 500), "device": "cpu", "validation": [[2000, 0.8, 0.3]]},
        "sets": {"generated": {"pairs": 8, "entries": entries}, "aloe": {"pairs": 1, "entries": entries[:3]}},
        "cost": {
            "macs": {"trunk": rng.randrange(10**7), "heads": rng.randrange(10**5)},
            "bytes": {"weights": rng.randrange(10**6), "outputs": rng.randrange(10**4)},
            "milliseconds": {"network": rng.uniform(5, 50), "decoder": rng.uniform(0.1, 2)},
            "pixels": 2048,
        },
    }


def store(folder, documents):
    folder.mkdir(exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def study(names=tuple(NETWORKS), seeds=(0, 1, 2)):
    return {f"{n}_s{s}": fabricated(n, s, NETWORKS[n]) for n in names for s in seeds}


@pytest.fixture(scope="module")
def documents():
    rows = [
        {"network": n, "seed": s, "fp32": 1.5 + s, "w8a8": 1.75 + s, "targets": {"x86-avx2": 3 + s}}
        | {"error": {"mean": (0.125 + s) / share, "depth": 2.5}}
        for n, share in (("p0", 1), ("p3", 2))
        for s in (0, 1)
    ]
    layers = [
        {"name": "block0", "relative_rms": 0.01234, "max": 0.5},
        {"name": "block1", "relative_rms": 0.5, "max": 2},
    ]
    demo = {
        "demo": "keypoints",
        "metric": "distance",
        "unit": "px",
        "error_unit": "cells",
        "data": "Made-up shapes",
        "rows": rows,
    }
    return {**study(), "demo_keypoints": demo, "dpt_p0_s0_layers": layers, "dpt_p3_s0_layers": layers[:1]}


def text_of(folder):
    return report.page(read(folder), {})


def rows_of(text, *start):
    """Cells of the rows whose first cells are these."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if tuple(row[: len(start)]) == start]


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_whole_page_is_written_and_repeats_byte_for_byte(tmp_path, documents):
    folder = store(tmp_path / "results", documents)
    found = []
    for _ in range(2):
        page = report.write(folder, tmp_path / "study.md", tmp_path / "docs" / "images")
        images = sorted((tmp_path / "docs" / "images").iterdir())
        found.append((page.read_bytes(), [(image.name, image.read_bytes()) for image in images]))
    assert found[0] == found[1]
    text = found[0][0].decode()
    for title, _, plot in report.SECTIONS:
        assert f"\n## {title}\n" in text
        assert not plot or f"](docs/images/study_{plot}.png)" in text
    assert [name for name, _ in found[0][1]] == sorted(f"study_{plot}.png" for plot in report.CAPTIONS)
    assert all(len(content) < 60_000 and content[:4] == b"\x89PNG" for _, content in found[0][1])
    assert "nan" not in text.lower().replace("nant", "")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def leaves(value, path=()):
    """Paths of all numbers of a document that the page is to show."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    elif isinstance(value, float | int) and not isinstance(value, bool):
        yield path


NOT_SHOWN = {"seed", "order", "dimensions", "noise", "embedding", "coverage", "pixels", "bad3", "epe_median"}


def test_every_stored_figure_is_in_the_page_and_moves_it(tmp_path):
    made = study(("p0", "p3_guide"), (0,))
    folder = store(tmp_path, made)
    before = text_of(folder)
    run = "p3_guide_s0"
    exact = {("w8a8", "exact"), ("fp32", None)}
    tried = 0
    for path in leaves(made[run]):
        if path[-1] in NOT_SHOWN or path[0] not in ("sets", "parameters", "training", "cost"):
            continue
        changed = copy.deepcopy(made[run])
        place = changed
        for key in path[:-1]:
            place = place[key]
        if path[0] == "sets":
            entry = changed["sets"][path[1]]["entries"][path[3]] if path[2] == "entries" else None
            shown = {"accuracy": {"epe"}, "error": {"mean", "rmse", "robust_sd", "jump_rate"}}
            kept = entry and path[4] in shown and path[-1] in shown[path[4]] and path[1] == "generated"
            if not kept or (entry["precision"], entry["target"]) not in exact:
                continue
        if path[:2] == ("training", "validation") and path[-1] == 0:
            continue
        place[path[-1]] *= 3
        store(tmp_path, {run: changed})
        assert text_of(folder) != before, path
        tried += 1
    assert tried > 25


def test_cells_are_means_and_spreads_of_the_files(tmp_path, documents):
    made = copy.deepcopy(documents)
    for s, (epe, error) in enumerate(((0.5, 0.01), (0.6, 0.02), (0.7, 0.06))):
        for run, factor in ((f"p0_s{s}", 1.0), (f"p3_s{s}", 0.1)):
            entry = made[run]["sets"]["generated"]["entries"][2]
            entry["accuracy"]["epe"], entry["accuracy"]["d1"] = epe, 0.0125
            entry["error"] = dict.fromkeys(KEYS[1], error * factor)
    text = text_of(store(tmp_path, made))
    main = section(text, "Accuracy, in the form of the paper's Table 1")
    (row,) = rows_of(main, "p3", 'W8A8 "DSP"')
    assert "On 8 generated test pairs:" in main
    assert row[2] == "3"
    assert row[6:8] == ["0.600 ± 0.100", "1.25 ± 0.00"]
    assert row[8:] == ["0.93", "1.03", "0.81", "0.24", "1.26"]
    assert rows_of(main, "c1", "FP32")[0][8:] == ["–"] * 5
    table = section(text, "Quantization error")
    assert rows_of(table, "p0")[0][2] == "0.0300 (0.0100..0.0600)"
    assert rows_of(table, "p3")[0][5] == "0.0030 (0.0010..0.0060)"
    assert rows_of(table, "p3", 'W8A8 "DSP"')[0][2:] == [
        "7.88",
        "3",
        *["10.00 (10.00..10.00) ✓"] * 3,
        "10.00 (10.00..10.00)",
    ]
    assert "The bar holds on every seed (3) for p3" in table
    tasks = section(text, "Other tasks")
    assert "Metric: distance. Made-up shapes." in tasks
    assert rows_of(tasks, "network")[0][2:6] == ["FP32 px", "W8A8 exact px", "x86-avx2 px", "error: mean cells"]
    figures = ["2.000 ± 0.707", "2.250 ± 0.707", "3.500 ± 0.707", "0.6250 (0.1250..1.1250)", "2.5000 (2.5000..2.5000)"]
    assert rows_of(tasks, "p0")[0][1:] == ["2", *figures, "–"]
    assert rows_of(tasks, "p3")[0][-1] == "2.00 (2.00..2.00)"
    assert rows_of(section(text, "Error by layer"), "block0")[0][1:] == ["1.23 / 0.500"] * 2
    assert rows_of(section(text, "Error by layer"), "block1")[0][1:] == ["50.00 / 2.000", "–"]


def with_ratios(made, ratios, run="p3"):
    for s, ratio in enumerate(ratios):
        for name, value in ((f"p0_s{s}", 1.0), (f"{run}_s{s}", 1.0 / ratio)):
            for entry in made[name]["sets"]["generated"]["entries"][1:4]:
                entry["error"] = dict.fromkeys(KEYS[1], value)
    return made


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((5.5, 6, 7), "The bar holds on every seed (3) for p3."),
        ((4, 6, 8), "The bar holds on the mean over seeds, though not on every seed, for p3."),
        ((4, 4, 4), "The bar holds for none of the 1 compared."),
        ((0.5, 0.6, 0.7), "The bar holds for none of the 1 compared."),
    ],
)
def test_what_is_said_of_the_bar_is_computed(tmp_path, ratios, said):
    text = text_of(store(tmp_path, with_ratios(study(("p0", "p3")), ratios)))
    assert said in section(text, "Quantization error")
    assert f"* Exact integers, nearest point: the bar {said.removeprefix('The bar ')}\n" in section(text, "In short")
    most = f"{sum(ratios) / 3:.2f} (p3)"
    assert f"mean over seeds: robust SD {most}, mean {most}, RMSE {most}." in section(text, "In short")
    broken = section(text, "Targets: where the gain breaks")
    assert ("Larger mean or RMSE than the plain network's: p3." in broken) == (ratios[0] < 1)


def test_ratios_are_by_seed_to_the_plain_network_of_the_same_noise(tmp_path):
    made = with_ratios(study(("p0", "p3", "p0_still", "p3_still")), (6, 6, 6))
    for s in range(3):
        still = {"p0_still": 8.0, "p3_still": 2.0 * (s + 1)}
        for name, value in still.items():
            made[f"{name}_s{s}"]["sets"]["generated"]["entries"][2]["error"] = dict.fromkeys(KEYS[1], value)
    table = section(text_of(store(tmp_path, made)), "Feature noise")
    assert rows_of(table, "p3_still")[0][-1] == f"{(4 + 2 + 4 / 3) / 3:.2f} (1.33..4.00) (✓)".replace(" (✓)", "")
    assert rows_of(table, "p3")[0][-1] == "6.00 (6.00..6.00) ✓"
    assert rows_of(table, "p0")[0][-1] == "–"
    assert f"p3 {4.0 * 6:.2f}" in table


def test_a_scheme_is_compared_with_the_plain_network_of_the_same_scheme_alone(tmp_path):
    made = study(("p0", "p3", "p0_still", "q_p0_w4a4", "q_p3_w4a4"), (0,))
    for name, value in (("p0", 100.0), ("p0_still", 50.0), ("q_p0_w4a4", 6.0), ("q_p3_w4a4", 3.0)):
        for entry in made[f"{name}_s0"]["sets"]["generated"]["entries"][1:]:
            entry["precision"], entry["error"] = "w8a8", dict.fromkeys(KEYS[1], value)
    title = "Other widths and weights"
    (row,) = rows_of(section(text_of(store(tmp_path, made)), title), "q_p3_w4a4")
    assert row[1] == "w4a4"
    assert row[-1] == "2.00"
    (tmp_path / "q_p0_w4a4_s0.json").unlink()
    assert rows_of(section(text_of(tmp_path), title), "q_p3_w4a4")[0][-1] == "–"


def test_names_of_recipes_are_understood(tmp_path, documents):
    runs = {run.recipe: run for run in read(store(tmp_path, documents)).runs}
    said = {name: (run.head, run.scheme, run.remedies) for name, run in runs.items()}
    assert said["p3"] == ("p3", "", [])
    assert said["p3_still"] == ("p3", "", [])
    assert said["p3_guide"] == ("p3", "", ["guide"])
    assert said["dpt_p3"] == ("p3", "", [])
    assert said["q_p3_w4a4"] == ("p3", "q_w4a4", [])
    assert said["first_float"] == ("", "first_float", [])


def test_seeds_that_are_missing_are_counted(tmp_path):
    made = study(("p0", "p3"), (0, 1))
    del made["p0_s1"]
    for entry in made["p3_s0"]["sets"]["generated"]["entries"]:
        entry.pop("error", None)
    table = section(text_of(store(tmp_path, made)), "Quantization error")
    assert rows_of(table, "p0")[0][1] == "1"
    assert rows_of(table, "p3")[0][1] == "2"
    assert "÷" not in table
    assert "The bar" not in table


def test_sections_without_data_are_left_out(tmp_path):
    made = study(("p0",), (0,))
    del made["p0_s0"]["cost"], made["p0_s0"]["sets"]["aloe"]
    text = text_of(store(tmp_path, made))
    assert re.findall("^## (.*)", text, re.M) == [
        "What was measured, and how",
        "Accuracy, in the form of the paper's Table 1",
        "Quantization error",
        "Targets: where the gain breaks",
        "Why mean and RMSE don't follow the robust SD",
        "The ideal channel: insets, rounded turns, dimensions",
        "Trainings",
    ]
    assert list(draw(read(tmp_path), tmp_path)) == ["targets"]


def test_the_ideal_channel_obeys_the_length_of_the_curve():
    """With noise small against the edges the ratio is L, and a table of it is made once."""
    text = channel_table()
    assert channel_table() is text
    for name, length in (("p1", 2.625), ("p3", 7.875), ("c1", 6.125), ("c2", 15.75)):
        first = rows_of(text, name)[0][1]
        assert [float(part) for part in first.split(" / ")] == pytest.approx([length, length], rel=0.05)


def test_figures_that_json_cannot_hold_are_dashes(tmp_path):
    made = study(("p0", "p3"), (0,))
    made["p3_s0"]["sets"]["generated"]["entries"][2]["error"]["effective_bits"] = None
    made["p3_s0"]["sets"]["generated"]["entries"][2]["error"]["rmse"] = 0.0
    table = section(text_of(store(tmp_path, made)), "Quantization error")
    assert rows_of(table, "p3")[0][7] == "–"
    assert rows_of(table, "p3", 'W8A8 "DSP"')[0][6] == "–"
    draw(read(tmp_path), tmp_path)


def test_trainings_of_unequal_length_are_named(tmp_path):
    made = study(("p0", "p3"), (0,))
    same = "All networks of the family dispnet that are compared at W8A8 were trained for 2000 steps."
    assert same in text_of(store(tmp_path, made))
    made["p3_s0"]["training"]["steps"] = 1500
    assert "trained for unequal numbers of steps (1500, 2000)" in text_of(store(tmp_path, made))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p0_s0", "{", "can't be read as results"),
        ("p0_s0", "[]", "p0_s0.json: results: Input should be"),
        ("p0_s0", '{"run": 3}', "p0_s0.json: run: Input should be a valid string"),
        ("demo_x", '{"demo": "x", "metric": "y"}', "demo_x.json: rows: Field required"),
        ("p0_layers", '[{"name": "x"}]', "p0_layers.json: 0.relative_rms: Field required"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(tmp_path, name, content, said):
    (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(IntsimError, match=re.escape(said)) as caught:
        report.write(tmp_path, tmp_path / "study.md", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study.md").exists()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("order",), 7),
        (("sets", "generated", "entries", 0, "accuracy", "epe"), "much"),
        (("training",), None),
        (("cost", "macs"), 3),
    ],
)
def test_a_run_with_an_impossible_value_is_refused(tmp_path, path, value):
    made = study(("p0",), (0,))
    place = made["p0_s0"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(IntsimError, match=re.escape(f"p0_s0.json: {'.'.join(map(str, path))}")):
        read(store(tmp_path, made))


def test_no_results_and_results_twice_are_refused(tmp_path):
    with pytest.raises(IntsimError, match="no results; make some with"):
        read(tmp_path)
    made = study(("p0",), (0,))["p0_s0"]
    with pytest.raises(IntsimError, match="recipe p0, seed 0 is in another file"):
        read(store(tmp_path, {"p0_s0": made, "again": made}))


def test_pictures_show_the_files_figures(tmp_path):
    made = with_ratios(study(("p0", "p1", "p3", "c1", "p0_still", "p3_still")), (4, 6, 8))
    records = read(store(tmp_path, made))
    flat, cube = plots.ratio(records).axes
    lines = {line.get_label(): line for line in flat.get_lines()}
    np.testing.assert_array_equal(lines["length L of the curve"].get_xydata(), [[1, 2.625], [3, 7.875]])
    containers = {c.get_label(): c.lines[0].get_xydata() for c in flat.containers}
    assert set(containers) == {"robust SD", "mean", "RMSE"}
    assert all(tuple(data[1]) == (3, 6) for data in containers.values())
    assert [len(c.lines[0].get_xydata()) for c in cube.containers] == [1, 1, 1]
    (axis,) = plots.targets(records).axes
    bars = [c for c in axis.containers if hasattr(c, "patches")]
    assert [c.get_label() for c in bars] == ["exact", "x86-avx2"]
    assert bars[0].patches[0].get_height() == pytest.approx(1)
    assert bars[0].patches[2].get_height() == pytest.approx((1 / 4 + 1 / 6 + 1 / 8) / 3)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["p0", "p1", "p3", "c1"]
    assert plots.schemes(records) is None


def test_cells():
    figure = Figure("x", "x", 2, 100)
    assert deviation([0.01, 0.03], figure) == "2.00 ± 1.41"
    assert deviation([0.01], figure) == "1.00"
    assert deviation([], figure) == deviation([math.nan, 1.0], figure) == "–"
    assert span([0.01, 0.03], figure) == "2.00 (1.00..3.00)"
    assert span([math.inf], figure) == number(math.nan, 1) == "–"
    assert markdown(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |"
    assert markdown(["a"], []) == ""


def test_base_networks_are_in_order(tmp_path, documents):
    records = read(store(tmp_path, documents))
    assert list(sections.base(records)) == ["p0", "p1", "p2", "p3", "p4", "c1", "c2"]
    assert list(sections.base(records, noise=False)) == ["p0_still", "p3_still"]
    assert list(sections.base(records, "dpt")) == ["dpt_p0", "dpt_p3"]
    lengths = [runs[0].length for runs in sections.base(records).values()]
    assert lengths == [1, 2.625, 3.75, 7.875, 15.9375, 6.125, 15.75]
