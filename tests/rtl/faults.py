"""Six mistakes that are made in such modules: what is changed, in which file of hardware/rtl."""

from typing import NamedTuple


class Fault(NamedTuple):
    module: str
    old: str
    new: str

    def planted(self, text):
        assert text.count(self.old) == 1
        return text.replace(self.old, self.new)


FAULTS = {
    "rounding constant": Fault("requantize", "FULL'(2) <<< (MUL - 3)", "FULL'(2) <<< (MUL - 4)"),
    "sign bit": Fault("mac", "{B_SIGNED != 0 && b[B-1], b}", "{1'b0, b}"),
    "saturation bound": Fault(
        "overflow_add", "{negative, {(ACC - 1) {!negative}}}", "{negative, {(ACC - 2) {!negative}}, 1'b1}"
    ),
    "tie rule": Fault("round_shift", "ROUNDING == 1 ? above || (tie && !negative)", "ROUNDING == 1 ? above || tie"),
    "window edge": Fault("hilbert_foot", "high >= stop ? POS'(1 << EDGE)", "high > start ? POS'(1 << EDGE)"),
    "borrow": Fault("packed_mac", "BORROW != 0 && AT != 0", "BORROW == 0 && AT != 0"),
    "lane order": Fault("stage", "out_value <= held[flush]", "out_value <= held[flush ^ LW'(1)]"),
}
