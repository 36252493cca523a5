"""A dumb twin of a layer in Python integers: everything it knows comes from manifest.json and the files beside it.

It shares no code with intsim. Loops over outputs, one addition after another.
"""

import itertools
import json
import math
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

import numpy as np


class Folder:
    """A folder of vectors."""

    def __init__(self, path):
        self.path = Path(path)
        self.manifest = json.loads((self.path / "manifest.json").read_text())
        self.layers = {x["name"]: x for x in self.manifest["layers"]}

    def tensor(self, layer, role):
        """In the network's order; None where the layer has none."""
        for entry in layer["tensors"]:
            if entry["role"] == role:
                stored = np.load(self.path / entry["files"]["npy"])
                back = np.argsort(entry["permutation"])
                moved = [entry["of_shape"][i] for i in entry["permutation"]]
                return stored.reshape(moved).transpose(back)
        return None


def wrap(x, bits):
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def held(x, stage):
    top = 1 << (stage["bits"] - 1)
    return wrap(x, stage["bits"]) if stage["overflow"] == "wrap" else min(max(x, -top), top - 1)


def groups(count, stage):
    """Which values each register adds up, in the order of handing on."""
    lanes, size = stage.get("lanes", 1), stage["sum"]
    if size == "rest":
        return [[k for k in range(count) if k % lanes == lane] for lane in range(min(lanes, count))]
    out = []
    for begin in range(0, count, lanes * size):
        block = range(begin, min(begin + lanes * size, count))
        out += [[k for k in block if (k - begin) % lanes == lane] for lane in range(min(lanes, len(block)))]
    return out


def accumulate(values, stages, first=0, late=()):
    """Through all registers; `first` is loaded into the last one, `late` added into it at the end."""
    for i, stage in enumerate(stages):
        last, out = i == len(stages) - 1, []
        for group in groups(len(values), stage) or [[]]:
            register = held(first, stage) if last else 0
            for k in group:
                register = held(register + values[k], stage)
            for more in late if last else ():
                register = held(register + more, stage)
            out.append(register)
        values = out
    if not stages:
        return sum(values) + first + sum(late)
    assert len(values) == 1
    return values[0]


def packed(lists, stages, packing, late):
    """Sums of the outputs of one set, by (channel, pixel), whose products lie side by side in one wide register."""
    depth = len(next(iter(lists.values())))
    size = depth if stages[0]["sum"] == "rest" else stages[0]["sum"]
    read = {key: [] for key in lists}
    offset = {(c, p): packing["channels"][c] + packing["pixels"][p] for c, p in lists}
    for begin in range(0, depth, size):
        wide = 0
        for k in range(begin, min(begin + size, depth)):
            wide = wrap(wide + sum(values[k] << offset[key] for key, values in lists.items()), packing["bits"])
        for key in lists:
            field = wrap(wide >> offset[key], stages[0]["bits"])
            if packing["correction"] == "borrow" and offset[key]:
                field += wide >> (offset[key] - 1) & 1
            read[key].append(field)
    return {key: accumulate(read[key], stages[1:], 0, late[key]) for key in lists}


def accumulators(folder, layer):
    """Of a convolution or a dense layer, in the network's order."""
    about, window = layer["products"], layer["window"]
    x, w = folder.tensor(layer, "operand"), folder.tensor(layer, "weight")
    bias, compensation = folder.tensor(layer, "bias"), folder.tensor(layer, "compensation")
    weight_zero = folder.tensor(layer, "weight_zero")
    assert not about["padding_paid_back"]
    shift_x, shift_w = about["activation_shift"], about["weight_shift"]
    if window is None:
        rows = x.reshape(-1, x.shape[-1])
        places = [((i,), [int(v) + shift_x for v in row]) for i, row in enumerate(rows)]
        weights = [[int(v) + shift_w for v in column] for column in w.T]
        shape = (*x.shape[:-1], w.shape[1])
        taken = {(place, c): values for place, values in places for c in range(len(weights))}
        out = np.zeros((len(rows), len(weights)), object)
    else:
        (kh, kw), (sh, sw), (dh, dw) = window["kernel"], window["strides"], window["dilations"]
        top, left, bottom, right = window["pads"]
        n, _, height, width = x.shape
        oh = (height + top + bottom - dh * (kh - 1) - 1) // sh + 1
        ow = (width + left + right - dw * (kw - 1) - 1) // sw + 1
        per, out_per = w.shape[1], w.shape[0] // window["groups"]
        axes = {"kh": range(kh), "kw": range(kw), "cin": range(per)}
        taps = []
        for combination in itertools.product(*(axes[a] for a in about["order"])):
            tap = dict(zip(about["order"], combination, strict=True))
            taps.append((tap["kh"], tap["kw"], tap["cin"]))
        weights = [[int(w[c, i, a, b]) + shift_w for a, b, i in taps] for c in range(w.shape[0])]
        shape, taken = (n, w.shape[0], oh, ow), {}
        places = [(p, None) for p in itertools.product(range(n), range(oh), range(ow))]
        for (image, y, z), _ in places:
            for group in range(window["groups"]):
                values = []
                for a, b, i in taps:
                    v, u = y * sh + a * dh - top, z * sw + b * dw - left
                    inside = 0 <= v < height and 0 <= u < width
                    code = int(x[image, group * per + i, v, u]) + shift_x if inside else about["padding_operand"]
                    values.append(code)
                for c in range(group * out_per, (group + 1) * out_per):
                    taken[(image, y, z), c] = values
        out = np.zeros(shape, object)
    stages = about["stages"]

    def late(place, c):
        parts = 0 if compensation is None else int(compensation[c])
        parts += int(bias[c]) if bias is not None and about["bias"] == "after" else 0
        if about["sum_of_operands"]:
            parts -= (int(weight_zero[c]) + shift_w) * sum(taken[place, c])
        return [parts] if parts or about["bias"] == "after" else []

    first = [int(b) if about["bias"] == "preload" else 0 for b in (bias if bias is not None else [0] * len(weights))]
    behind = [int(b) if about["bias"] == "requantizer" else 0 for b in (bias if bias is not None else first)]

    def put(place, c, value):
        out[(place[0], c, *place[1:]) if window else (place[0], c)] = value + behind[c]

    products = {(p, c): [a * b for a, b in zip(v, weights[c], strict=True)] for (p, c), v in taken.items()}
    if about["packing"] is None:
        for (place, c), values in products.items():
            put(place, c, accumulate(values, stages, first[c], late(place, c)))
        return out.reshape(shape)
    pixels, together = len(about["packing"]["pixels"]), len(about["packing"]["channels"])
    for at in range(0, len(places), pixels):
        for begin in range(0, len(weights), together):
            lists, more, where = {}, {}, {}
            for p, c in itertools.product(range(pixels), range(together)):
                if at + p < len(places) and begin + c < len(weights):
                    where[c, p] = places[at + p][0], begin + c
                    lists[c, p], more[c, p] = products[where[c, p]], late(*where[c, p])
            for key, value in packed(lists, stages, about["packing"], more).items():
                put(*where[key], value)
    return out.reshape(shape)


def divided(top, bottom, mode):
    """top / bottom (> 0) rounded, by the names of rounding modes."""
    floor, rest = divmod(top, bottom)
    twice = 2 * rest - bottom
    up = {
        "floor": False,
        "ceil": rest > 0,
        "toward_zero": rest > 0 and top < 0,
        "away": rest > 0 and top > 0,
        "half_up": twice >= 0,
        "half_even": twice > 0 or (twice == 0 and floor % 2 == 1),
        "half_away": twice > 0 or (twice == 0 and top > 0),
        "half_toward_zero": twice > 0 or (twice == 0 and top < 0),
    }[mode]
    return floor + int(up)


def shifted(value, shift, mode):
    """value / 2^shift, a negative shift to the left."""
    return value << -shift if shift < 0 else divided(value, 1 << shift, mode)


def gemmlowp(value, multiplier, shift, bits=32, second="half_away"):
    """High product, ties up; then a division, ties away from zero."""
    left, right = max(0, bits - 1 - shift), max(0, shift - bits + 1)
    high = divided(wrap(value << left, 32) * multiplier, 1 << (bits - 1), "half_up")
    return divided(high, 1 << right, second)


def cell_of(layer, position):
    """The number of the requantizer's cell at a position of the result."""
    cells = layer["requantizer"]["cells"]
    cells = [1] * (len(position) - len(cells)) + cells
    at = 0
    for size, i in zip(cells, position, strict=True):
        at = at * size + (i if size > 1 else 0)
    return at


def constants(folder, layer):
    """Of each cell, lists by name: one entry a piece."""
    about, found = layer["requantizer"], {}
    for entry in layer["tensors"]:
        if entry["role"].startswith("requantize_"):
            array = folder.tensor(layer, entry["role"])
            name = entry["role"].removeprefix("requantize_")
            found[name] = [list(row) if np.ndim(row) else [row] for row in array]
    for name, rows in about["rationals"].items():
        found[name] = [[Fraction(v) for v in row] for row in rows]
    return [{name: rows[i] for name, rows in found.items()} for i in range(math.prod(about["cells"]))]


def requantized(folder, layer, acc):
    """Codes of accumulators."""
    about, cells = layer["requantizer"], constants(folder, layer)
    out = np.zeros(acc.shape, object)
    for position in np.ndindex(*acc.shape):
        out[position] = code(about, cells[cell_of(layer, position)], int(acc[position]))
    return out


def code(about, cell, acc):
    """One code of one accumulator."""
    scheme = about["scheme"]
    if scheme == "thresholds":
        return int([c for t, c in zip(cell["threshold"], cell["code"], strict=True) if int(t) <= acc][-1])
    starts = cell.get("start", [None])
    piece = max([0] + [i for i, start in enumerate(starts) if start is not None and int(start) <= acc])

    def of(name, otherwise=0):
        return cell[name][piece] if name in cell else otherwise

    if scheme == "exact":
        value = of("scale") * acc + of("offset")
        made = divided(value.numerator, value.denominator, about["model_rounding"])
    else:
        acc += int(of("bias"))
        if about["register"] is not None:
            acc = held(acc, about["register"])
        if scheme == "fixed-point" and about.get("double_rounding"):
            multiplier, bits = int(of("multiplier")), about["multiplier_bits"]
            made = gemmlowp(acc, multiplier, int(of("shift")), bits) if multiplier else 0
        elif scheme == "ruy":
            made = gemmlowp(acc, int(of("multiplier")), int(of("shift")), 32, "half_up") if int(of("multiplier")) else 0
        elif scheme == "fixed-point":
            made = shifted(acc * int(of("multiplier")), int(of("shift")), about["rounding"])
        elif scheme == "tosa":
            multiplier, shift = int(of("multiplier")), int(of("shift"))
            made = (acc * multiplier + (1 << (shift - 1))) >> shift if multiplier else 0
        elif scheme == "shift":
            made = shifted(acc * int(of("sign")), int(of("shift")), about["rounding"])
        elif scheme == "float32":
            made = int(np.rint(np.float32(acc) * np.float32(of("factor"))))
        elif scheme == "float64":
            product = float(acc) * float(of("factor"))
            made = divided(*product.as_integer_ratio(), "half_away")
        else:
            raise AssertionError(scheme)
        made += int(of("constant"))
    made += about["zero_point"]
    return min(max(made, about["low"]), about["high"])


def check(path):
    """Every layer of a folder against this twin; what was checked, by layer."""
    folder, done = Folder(path), {}
    for name, layer in folder.layers.items():
        output = folder.tensor(layer, "output")
        acc = folder.tensor(layer, "accumulator")
        kinds = []
        if layer["products"] is not None:
            assert (accumulators(folder, layer) == acc).all(), f"{name}: accumulators"
            kinds.append("sums")
        if layer["operator"] == "sum_pool":
            assert (summed(folder, layer) == acc).all(), f"{name}: sums of windows"
            kinds.append("window")
        if layer["operator"] == "max_pool":
            assert (most(folder, layer) == output).all(), f"{name}: maxima"
            kinds.append("max")
        if layer["operator"] == "table":
            table, low = folder.tensor(layer, "table"), layer["attributes"]["low"]
            assert (table[0][folder.tensor(layer, "operand").astype(int) - low] == output).all(), f"{name}: table"
            kinds.append("table")
        if layer["operator"] == "staircase":
            assert (stepped(folder, layer) == output).all(), f"{name}: steps"
            kinds.append("staircase")
        about = layer["requantizer"]
        if about is not None and "adds" in about:
            total = added(folder, layer)
            assert acc is None or (total == acc).all(), f"{name}: sum of inputs"
            assert (requantized(folder, layer, total) == output).all(), f"{name}: codes of a sum"
            kinds.append("add")
        elif about is not None and about["reads"] == "sum":
            assert (requantized(folder, layer, acc) == output).all(), f"{name}: codes"
            kinds.append("codes")
        elif about is not None:
            assert (KERNELS[about["scheme"]](folder, layer) == output).all(), f"{name}: {about['scheme']}"
            kinds.append("kernel")
        done[name] = kinds
    return done


def stepped(folder, layer):
    """Codes of sums by the steps of their channels."""
    x, starts, codes = (folder.tensor(layer, role) for role in ("operand", "starts", "codes"))
    made = np.empty(x.shape, object)
    for index in np.ndindex(*x.shape):
        row = index[1] if len(starts) > 1 else 0
        made[index] = int(codes[row][bisect_right([int(s) for s in starts[row]], int(x[index]))])
    return made


def windows(layer, x):
    """Elements of each window, with their places in a plane; those outside are left out."""
    (kh, kw), (sh, sw), (dh, dw) = (layer["window"][k] for k in ("kernel", "strides", "dilations"))
    top, left, bottom, right = layer["window"]["pads"]
    n, channels, height, width = x.shape
    oh = (height + top + bottom - dh * (kh - 1) - 1) // sh + 1
    ow = (width + left + right - dw * (kw - 1) - 1) // sw + 1
    for i, c, y, z in itertools.product(range(n), range(channels), range(oh), range(ow)):
        places = [(y * sh + a * dh - top, z * sw + b * dw - left) for a in range(kh) for b in range(kw)]
        inside = [(v, u) for v, u in places if 0 <= v < height and 0 <= u < width]
        yield (i, c, y, z), [int(x[i, c, v, u]) for v, u in inside]


def summed(folder, layer):
    x, weight, zero = folder.tensor(layer, "operand"), folder.tensor(layer, "weight"), layer["attributes"]["zero_point"]
    out = {at: sum(v - zero for v in values) for at, values in windows(layer, x)}
    shape = [max(k[i] for k in out) + 1 for i in range(4)]
    made = np.array([out[at] for at in np.ndindex(*shape)], object).reshape(shape)
    return made * weight.astype(object)


def most(folder, layer):
    out = {at: max(values) for at, values in windows(layer, folder.tensor(layer, "operand"))}
    shape = [max(k[i] for k in out) + 1 for i in range(4)]
    return np.array([out[at] for at in np.ndindex(*shape)], object).reshape(shape)


def added(folder, layer):
    """The sum of a layer's inputs before its requantizer."""
    about = layer["requantizer"]
    inputs = [
        folder.tensor(layer, r["role"]).astype(object) for r in layer["tensors"] if r["role"].startswith("operand")
    ]
    cells = constants(folder, layer)
    if about["adds"] == "exactly":
        return sum(x * int(a) for x, a in zip(inputs, cells[0]["coefficient"], strict=True))
    cell, out = cells[0], np.zeros(inputs[0].shape, object)
    for i, x in enumerate(inputs):
        for at in np.ndindex(*x.shape):
            value = int(x[at]) << about["left_shift"]
            multiplier, shift = int(cell["operand_multiplier"][i]), int(cell["operand_shift"][i])
            twice = about.get("double_rounding")
            out[at] += (
                gemmlowp(value, multiplier, shift)
                if twice
                else shifted(value * multiplier, shift, about.get("rounding", "half_up"))
            )
    return out


def fma(x, y, z):
    """x * y + z, rounded to the nearest float64, which is right for float32 operands of these sizes, and to float32."""
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    return np.float32(exact.numerator / exact.denominator)


def qlinear_add(folder, layer):
    """ONNX Runtime's Add, for two tensors of one shape: rint(fma(a, ra, fma(b, rb, c)))."""
    about = layer["requantizer"]
    (site,) = about["sites"]
    a, b = (folder.tensor(layer, r) for r in ("operand", "operand_2"))
    (sa, za), (sb, zb) = ((Fraction(o["scale"]), o["zero_point"]) for o in site["operands"])

    def f(x):  # correctly rounded: float64 holds float32 operands' fused products for these codes
        return np.float32(float(x))

    step = f(Fraction(site["step"]))
    ra, rb = np.float32(f(sa) / step), np.float32(f(sb) / step)

    c = np.float32(np.float32(site["zero"]) - fma(ra, np.float32(za), np.float32(rb * np.float32(zb))))
    out = np.zeros(a.shape, object)
    for at in np.ndindex(*a.shape):
        value = int(np.rint(fma(np.float32(a[at]), ra, fma(np.float32(b[at]), rb, c))))
        out[at] = min(max(value, about["low"]), about["high"])
    return out


def qlinear_average_pool(folder, layer):
    """ONNX Runtime's AveragePool without padding: a float32 sum of dequantized codes, divided, quantized."""
    about, x = layer["requantizer"], folder.tensor(layer, "operand")
    (site,) = about["sites"]
    scale, zero = np.float32(float(Fraction(site["operands"][0]["scale"]))), site["operands"][0]["zero_point"]
    step, out = np.float32(float(Fraction(site["step"]))), {}
    for at, values in windows(layer, x):
        total = np.float32(0)
        for v in values:
            total = np.float32(total + np.float32(np.float32(v - zero) * scale))
        mean = np.float32(total / np.float32(len(values)))
        value = int(np.rint(np.float32(np.float32(mean / step) + np.float32(site["zero"]))))
        out[at] = min(max(value, about["low"]), about["high"])
    shape = [max(k[i] for k in out) + 1 for i in range(4)]
    return np.array([out[at] for at in np.ndindex(*shape)], object).reshape(shape)


def litert_add(folder, layer):
    """Both operands shifted left by 20 and rescaled, their sum rescaled: R of gemmlowp, or rounded once."""
    about, (cell,) = layer["requantizer"], constants(folder, layer)
    (site,) = about["sites"]
    inputs = [folder.tensor(layer, role) for role in ("operand", "operand_2")]
    out = np.zeros(inputs[0].shape, object)

    def times(value, multiplier, shift):
        twice = about.get("double_rounding")
        return gemmlowp(value, multiplier, shift) if twice else shifted(value * multiplier, shift, "half_up")

    for at in np.ndindex(*out.shape):
        total = 0
        for i, (x, operand) in enumerate(zip(inputs, site["operands"], strict=True)):
            value = int(x[at]) - operand["zero_point"]
            total += operand["sign"] * times(
                value << 20, int(cell["operand_multiplier"][i]), int(cell["operand_shift"][i])
            )
        made = times(total, int(cell["multiplier"][0]), int(cell["shift"][0])) + site["zero"]
        out[at] = min(max(made, about["low"]), about["high"])
    return out


def litert_average_pool(folder, layer):
    """Codes added and divided, halves away from zero."""
    out = {}
    for at, values in windows(layer, folder.tensor(layer, "operand")):
        total, count = sum(values), len(values)
        out[at] = (total + count // 2) // count if total > 0 else -((count // 2 - total) // count)
    shape = [max(k[i] for k in out) + 1 for i in range(4)]
    return np.array([out[at] for at in np.ndindex(*shape)], object).reshape(shape)


def xnnpack_add(folder, layer):
    """(a ma + b mb) >> shift, rounded up at ties."""
    about, (cell,) = layer["requantizer"], constants(folder, layer)
    (site,) = about["sites"]
    out = np.zeros(folder.tensor(layer, "operand").shape, object)
    for i, role in enumerate(("operand", "operand_2")):
        zero = site["operands"][i]["zero_point"]
        out += (folder.tensor(layer, role).astype(object) - zero) * int(cell["operand_multiplier"][i])
    shift = int(cell["shift"][0])
    made = (out + (1 << (shift - 1))) // (1 << shift) + site["zero"]
    return np.minimum(np.maximum(made, about["low"]), about["high"])


def fbgemm(folder, layer):
    """rint(fma(bias, bias_factor, float32(acc)) * factor) + zero, the integer bias taken off the accumulator."""
    about, acc = layer["requantizer"], folder.tensor(layer, "accumulator")
    cells, out = constants(folder, layer), np.zeros(acc.shape, object)
    for at in np.ndindex(*acc.shape):
        i = cell_of(layer, at)
        site, cell = about["sites"][i if len(about["sites"]) > 1 else 0], cells[i]
        bias, factor = (np.float32(cell[k][0]) for k in ("bias", "bias_factor"))
        value = fma(bias, factor, np.float32(int(acc[at]) - site["bias"]))
        made = int(np.rint(np.float32(value * np.float32(cell["factor"][0])))) + site["zero"]
        low, high = (about[k] if about[k] is not None else int(cell[k][0]) for k in ("low", "high"))
        out[at] = min(max(made, low), high)
    return out


KERNELS = {
    "qlinear-add": qlinear_add,
    "qlinear-average-pool": qlinear_average_pool,
    "litert-add": litert_add,
    "litert-average-pool": litert_average_pool,
    "xnnpack-add": xnnpack_add,
    "fbgemm": fbgemm,
}
