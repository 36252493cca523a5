"""Every verb of intsim against all inputs of a network, as the oracle computes them."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

import intsim
from intsim.errors import IntsimError
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.verification.layers import layers

from .generate import network
from .machine import EXACT
from .machines import drawn, label
from .numbers import Refused
from .oracle import Oracle

VERBS = ("exact", "run", "bounds", "certify", "telemetry", "sweep")


@dataclass
class Found:
    """One network on one machine: contradictions by verb, and what certify said of it."""

    seed: int
    target: str
    text: str
    note: str
    state: str = "compared"  # or: refused, unmodelled
    contradictions: dict = field(default_factory=dict)
    verdict: str = ""
    safe: bool = False
    complete: bool = False
    events: int = 0
    biased: int = 0

    def add(self, verb, text):
        self.contradictions.setdefault(verb, []).append(text)


@dataclass
class Ran:
    """What the oracle says of a network on a machine."""

    oracle: Oracle
    layers: dict
    codes: dict


def ran(model, machine, inputs):
    """The oracle's run."""
    oracle = Oracle(model, machine).run(inputs)
    return Ran(oracle, oracle.layers, oracle.codes)


def differs(a, b):
    """The first place where two runs hold different integers, or None."""
    for name, seen in a.layers.items():
        if not np.array_equal(seen.result, b.layers[name].result):
            return f"sums of {name}"
    for name, codes in a.codes.items():
        if not np.array_equal(codes, b.codes[name]):
            return f"codes of {name}"
    return None


def integers(array):
    """As Python integers, for comparing and printing."""
    return np.asarray(array).astype(object)


def first_gap(mine, theirs):
    """Text of the first element that differs, or None."""
    mine, theirs = integers(mine), integers(theirs)
    if mine.shape != theirs.shape:
        return f"shape {theirs.shape}, the file has {mine.shape}"
    apart = np.argwhere(mine != theirs)
    if not len(apart):
        return None
    at = tuple(int(v) for v in apart[0])
    return f"{list(at)} is {theirs[at]}, the file gives {mine[at]} ({len(apart)} of {mine.size})"


def compare_run(found, verb, model, expected, got):
    """Codes, accumulators, events and outputs."""
    for boundary in model.lowered.boundaries:
        gap = first_gap(expected.codes[boundary.source], got.tensors[boundary.tensor])
        if gap:
            found.add(verb, f"input codes {boundary.source}: {gap}")
    for node in model.graph.nodes:
        if isinstance(OPS[node.op], Mac):
            seen = expected.layers[node.source]
            gap = first_gap(seen.result, got.tensors[node.output])
            if gap:
                found.add(verb, f"sums of {node.source}: {gap}")
            if node.name in got.overflows and got.overflows[node.name].size:
                events = got.overflows[node.name].tolist()
                if events != seen.events:
                    found.add(verb, f"events of {node.source}: {events}, the machine has {seen.events}")
        elif node.op == "requantize" and node.source in expected.codes:
            gap = first_gap(expected.codes[node.source], got.tensors[node.output])
            if gap:
                found.add(verb, f"codes of {node.source}: {gap}")
    for name, value in expected.oracle.outputs.items():
        exact = np.array([float(v) for v in value.reshape(-1)]).reshape(value.shape)
        if exact.shape != got.outputs[name].shape or not np.allclose(exact, got.outputs[name], rtol=1e-5, atol=1e-30):
            apart = np.abs(exact - got.outputs[name]).max() if exact.shape == got.outputs[name].shape else "shapes"
            found.add(verb, f"output {name} differs by {apart}")


def compare_bounds(found, claimed, expected):
    """No sum in a register, no finished accumulator outside its bounds; no event where a layer is safe."""
    for layer in claimed.layers:
        seen = expected.layers[layer.name]
        total = seen.registered.reshape(-1)
        if min(total) < layer.low or max(total) > layer.high:
            found.add("bounds", f"{layer.name}: sums {min(total)}..{max(total)} outside {layer.low}..{layer.high}")
        for i, stage in enumerate(layer.stages):
            low, high = min(v[i] for v in seen.low), max(v[i] for v in seen.high)
            if low < stage.low or high > stage.high:
                found.add(
                    "bounds", f"{layer.name}: register {i + 1} holds {low}..{high}, bounds {stage.low}..{stage.high}"
                )
            if not stage.unsafe_channels and any(v[i] for v in seen.events):
                found.add("bounds", f"{layer.name}: register {i + 1} is called safe and overflows")
        if layer.safe and any(map(any, seen.events)):
            found.add("bounds", f"{layer.name} is called safe and overflows")
        for kind, reached in (("own", layer.own_order), ("any", layer.any_order)):
            for c, (low, high) in enumerate(seen.own):
                if low < reached.channel_low[c] or high > reached.channel_high[c]:
                    span = f"{reached.channel_low[c]}..{reached.channel_high[c]}"
                    found.add("bounds", f"{layer.name}: {kind} order, channel {c}: {low}..{high} outside {span}")
    if claimed.safe and any(any(map(any, seen.events)) for seen in expected.layers.values()):
        found.add("bounds", "the network is called safe and overflows")


def compare_telemetry(found, claimed, expected):
    """Extremes, histograms and events of every register."""
    for layer in claimed.layers:
        seen = expected.layers[layer.name]
        for i, stage in enumerate(layer.stages):
            rows = {
                "low": (stage.low.tolist(), [v[i] for v in seen.need_low]),
                "high": (stage.high.tolist(), [v[i] for v in seen.need_high]),
                "partial": ([sparse(h) for h in stage.partial], [v[i] for v in seen.partial]),
                "final": ([sparse(h) for h in stage.final], [v[i] for v in seen.final]),
                "events": (stage.overflows.tolist(), [v[i] for v in seen.events]),
            }
            for what, (theirs, mine) in rows.items():
                if theirs != mine:
                    found.add("telemetry", f"{layer.name}, register {i + 1}: {what} {theirs}, the machine has {mine}")


def sparse(histogram):
    return {b: int(n) for b, n in enumerate(histogram) if n}


def compare_certificate(found, certificate, model, net, machine, exact, expected):
    """Certified: no integer of any input is wrong. Refuted: the counterexample is one."""
    found.verdict = certificate.verdict
    gap = differs(exact, expected)
    found.safe = gap is None
    if certificate.holds and gap:
        found.add("certify", f"certified, and {gap} are wrong")
    for claim in certificate.layers:
        # a claim speaks of right integers; behind an overflow before a layer sees others
        if found.safe and claim.safe_channels == claim.channels and any(map(any, expected.layers[claim.name].events)):
            found.add("certify", f"{claim.name}: every channel safe, and registers overflow")
    runs = {0: (exact, expected)}  # of the sample given; one that was constructed is run anew
    for obstacle in certificate.obstacles:
        for example in obstacle.counterexamples:
            if example.level == "network":
                wrong = replayed(example, runs, model, net, machine)
                if wrong:
                    found.add("certify", f"counterexample of {obstacle.name}: {wrong}")
        if obstacle.status == "refuted" and not any(e.level == "network" for e in obstacle.counterexamples):
            found.add("certify", f"{obstacle.name} is refuted without a network input")


def replayed(example, runs, model, net, machine):
    """What the oracle says against a counterexample that is a network input; None if nothing."""
    sample = example.network.sample
    if sample is None:
        (boundary,) = model.lowered.boundaries
        codes = example.inputs[boundary.tensor].array(model.graph.tensors[boundary.tensor].shape)
        scale = np.asarray(boundary.quantizer.scale, object).reshape(-1)[0]
        zero = np.asarray(boundary.quantizer.before, object).reshape(-1)[0] + boundary.quantizer.after
        reals = np.array([float((int(c) - zero) * scale) for c in codes.reshape(-1)]).reshape(codes.shape)
        sample = reals.tobytes()
        if sample not in runs:
            inputs = {boundary.host: reals}
            runs[sample] = ran(net.model, EXACT, inputs), ran(net.model, machine, inputs)
    exact, got = runs[sample]
    if differs(exact, got) is None:
        return "no integer of the network input it names is wrong"
    names = {n.output: n for n in model.graph.nodes}
    if example.tensor not in names:
        return None
    maker = names[example.tensor]
    at = tuple(example.position)
    sums = isinstance(OPS[maker.op], Mac)
    if not sums and not (maker.op == "requantize" and maker.source in exact.codes):
        return None
    right = exact.layers[maker.source].result if sums else exact.codes[maker.source]
    if right[at] != example.expected:
        return f"expects {example.expected}, exact is {right[at]}"
    if example.network.first_node == example.through[0]:  # nothing was wrong before: the network's own run shows it
        hit = got.layers[maker.source].result if sums else got.codes[maker.source]
        if hit[at] != example.got:
            return f"shows {example.got}, the machine makes {hit[at]}"
    return None


def compare_sweep(found, model, net, target, machine, exact, bits):
    """Proven widths have no event, observed ones none on these inputs, and counts of wrong integers are right."""
    if machine.packing is not None and len(machine.stages) < 2:
        return
    width = min(max(bits - found.seed % 3, 2), 64)
    rule = ["wrap", "saturate"][found.seed // 3 % 2]
    swept = intsim.sweep(model, target, net.inputs, accumulator=[width], overflow=[rule])
    parts = layers(model.graph, model.lowered.boundaries)
    parts = [p for p in parts if p.tensor not in model.graph.inputs]
    nodes = {n.name: n for n in model.graph.nodes}
    makers = {n.output: n for n in model.graph.nodes}
    for row in swept.rows:
        c = row.configuration
        last = {"bits": c.accumulator, "overflow": c.overflow}
        stages = machine.stages
        if stages:
            stages = (*stages[:-1], replace(stages[-1], **last))
        else:
            from .machine import Register

            stages = (Register(None, c.accumulator, c.overflow, 1),)
        got = ran(net.model, replace(machine, stages=stages), net.inputs)
        for part, line in zip(parts, row.layers, strict=True):
            sources = [nodes[m].source for m in part.macs]
            events = sum(map(sum, (e for s in sources for e in got.layers[s].events)))
            if line.proven and events and row.proven:
                found.add("sweep", f"{c}: {line.name} is proven and overflows")
            if machine.packing is None and sources and line.observed != (events == 0):
                found.add("sweep", f"{c}: {line.name}: observed {line.observed}, {events} events")
            wrong = sum(int((got.layers[s].result != exact.layers[s].result).sum()) for s in sources)
            if line.sum_mismatches != wrong:
                found.add("sweep", f"{c}: {line.name}: {line.sum_mismatches} wrong sums, {wrong} are")
            maker = makers[part.tensor]
            if maker.op == "requantize" and maker.source in exact.codes:
                count = int((got.codes[maker.source] != exact.codes[maker.source]).sum())
                if line.mismatches != count:
                    found.add("sweep", f"{c}: {line.name}: {line.mismatches} wrong codes, {count} are")


def contradict(seed, exact_biases=False, choose=drawn):
    """Draw network and machine of a seed and try to contradict each verb."""
    net = network(seed, exact_biases)
    exact = ran(net.model, EXACT, net.inputs)
    bits = max([2, *(b for seen in exact.layers.values() for c in seen.partial for h in c for b in h)])
    name, text, machine = choose(seed, bits, net)
    found = Found(seed, label(name), text, net.note, complete=net.complete)
    found.biased = sum(any(seen.bias) for seen in exact.layers.values())
    try:
        model = intsim.load(net.model)
        got = intsim.run(model, "exact", net.inputs, keep=True)
    except IntsimError as error:
        found.add("exact", f"refused: {error}")
        return found
    compare_run(found, "exact", model, exact, got)
    try:
        expected = ran(net.model, machine, net.inputs)
    except NotImplementedError:
        found.state = "unmodelled"
        return found
    except Refused as error:
        expected, refusal = None, str(error)
    try:
        target = Target.from_toml(text, name) if name == "random" else Target.load(name)
        got = intsim.run(model, target, net.inputs, keep=True)
    except IntsimError as error:
        found.state = "refused"
        if expected is not None:
            found.add("run", f"refused: {error}")
        return found
    if expected is None:
        found.add("run", f"runs, the machine refuses: {refusal}")
        return found
    found.events = sum(sum(map(sum, seen.events)) for seen in expected.layers.values())
    compare_run(found, "run", model, expected, got)
    with no_internal_error(found, "bounds"):
        compare_bounds(found, intsim.bounds(model, target), expected)
    with no_internal_error(found, "telemetry"):
        compare_telemetry(found, intsim.telemetry(model, target, net.inputs), expected)
    with no_internal_error(found, "certify"):
        try:
            certificate = intsim.certify(model, target, [net.inputs])
        except IntsimError:
            found.verdict = "refused"  # of accumulators that these inputs need not make
        else:
            compare_certificate(found, certificate, model, net, machine, exact, expected)
    with no_internal_error(found, "sweep"):
        try:
            compare_sweep(found, model, net, target, machine, exact, bits)
        except (IntsimError, Refused):
            found.verdict += ", sweep refused"
    return found


@contextmanager
def no_internal_error(found, verb):
    """An internal error of a verb contradicts it."""
    try:
        yield
    except Exception as error:
        found.add(verb, f"{type(error).__name__}: {error}")


@dataclass
class Table:
    """What many networks came to."""

    rows: dict = field(default_factory=dict)
    verbs: Counter = field(default_factory=Counter)
    contradicted: list = field(default_factory=list)
    certified: int = 0
    refuted: int = 0
    safe: int = 0
    open: int = 0
    biased: int = 0
    overflowing: int = 0

    def add(self, found):
        """Count one network."""
        row = self.rows.setdefault(found.target, Counter())
        row[found.state] += 1
        self.biased += found.biased > 0
        self.overflowing += found.events > 0
        if found.contradictions:
            row["contradicted"] += 1
            self.verbs.update(found.contradictions.keys())
            self.contradicted.append(found)
        verdict = found.verdict.split(",")[0]
        self.certified += verdict == "certified"
        self.refuted += verdict == "refuted"
        if (
            found.state == "compared"
            and found.complete
            and found.safe
            and verdict in ("certified", "open", "undecided")
        ):
            self.safe += 1
            self.open += verdict != "certified"

    @property
    def open_rate(self):
        """Share of networks that no input makes wrong and that certify leaves open."""
        return self.open / self.safe if self.safe else 0.0

    def text(self):
        """For people."""
        lines = [f"{'target':24}{'compared':>10}{'refused':>10}{'unmodelled':>12}{'contradicted':>14}"]
        for name in sorted(self.rows):
            r = self.rows[name]
            lines.append(f"{name:24}{r['compared']:>10}{r['refused']:>10}{r['unmodelled']:>12}{r['contradicted']:>14}")
        total = sum(sum(r[k] for k in ("compared", "refused", "unmodelled")) for r in self.rows.values())
        lines.append("")
        lines.append("contradictions: " + ", ".join(f"{v} {self.verbs[v]}" for v in VERBS))
        lines.append(
            f"{total} networks, {self.biased} with a bias in a register, {self.overflowing} with overflow; "
            f"certified {self.certified}, refuted {self.refuted}"
        )
        lines.append(
            f"certify stays open on {self.open} of {self.safe} networks that no input makes wrong, {self.open_rate:.1%}"
        )
        return "\n".join(lines)


def campaign(seeds, exact_biases=False, say=None):
    """A table of many networks."""
    table = Table()
    for i, seed in enumerate(seeds):
        table.add(contradict(seed, exact_biases))
        if say is not None:
            say(i + 1, table)
    return table
