"""An accumulator driven step by step: after each rule the running dumb machine, the definition and the fast twin agree.

The dumb machine keeps its registers while products come; the other two start over with all products each time.
"""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from intsim.arithmetic.accumulate import accumulate_telemetry
from intsim.engine.registers.matmul import register_matmul
from intsim.testing import stages
from intsim.testing.values import within
from tests import twins

WIDE = within(-(1 << 63) + 1, (1 << 63) - 1)
VALUES = st.one_of(within(-(1 << 31), (1 << 31) - 1), WIDE)
PLAIN = stages(min_bits=4).filter(lambda chain: not any(s.drop for s in chain))
"""Registers that round no products."""
MOST = 400


class Accumulator(RuleBasedStateMachine):
    """What a user of a register can do: feed it, fill its groups, add a bias at either end, and change the order."""

    @initialize(chain=PLAIN, preload=st.one_of(st.none(), VALUES))
    def build(self, chain, preload):
        self.chain, self.preload, self.products = chain, preload, []
        self.start_over()

    def start_over(self):
        self.machine = twins.Machine(self.chain)
        if self.preload is not None:
            self.machine.load(self.preload)
        for value in self.products:
            self.machine.product(value)

    def feed(self, values):
        for value in values:
            self.machine.product(value)
        self.products += values

    @precondition(lambda self: len(self.products) < MOST)
    @rule(values=st.lists(VALUES, min_size=1, max_size=6))
    def add_products(self, values):
        self.feed(values)

    @precondition(lambda self: len(self.products) < MOST)
    @rule(value=VALUES, times=st.integers(2, 40))
    def add_a_run(self, value, times):
        self.feed([value] * times)

    @precondition(lambda self: self.chain[0].sum is not None and len(self.products) < MOST)
    @rule(value=VALUES, more=st.integers(-1, 1))
    def fill_the_group(self, value, more):
        """So that the first stage has just handed on, is about to, or has begun the next group."""
        full = self.chain[0].sum * self.chain[0].lanes
        self.feed([value] * max(full - len(self.products) % full + more, 0))

    @precondition(lambda self: self.products)
    @rule()
    def cancel(self):
        """What takes the exact sum back to 0; a register that saturated doesn't come back."""
        self.feed([-value for value in self.products][: MOST // 2])

    @rule(random=st.randoms(use_true_random=False))
    def change_the_order(self, random):
        random.shuffle(self.products)
        self.start_over()

    @rule()
    def sort(self):
        self.products.sort()
        self.start_over()

    @rule(bias=st.one_of(st.none(), VALUES))
    def finish(self, bias):
        """The bias after everything, on a copy: the machine itself goes on."""
        self.compare(bias)

    @invariant()
    def all_agree(self):
        if hasattr(self, "machine"):
            self.compare(None)

    def compare(self, bias):
        ours = self.machine.copy().finish(bias)
        products = np.array(self.products, np.int64)
        defined = accumulate_telemetry(products, self.chain, 0 if self.preload is None else self.preload, bias)
        assert (int(defined.result), *(part.tolist() for part in defined[1:])) == ours
        channel = [None if c is None else np.array([c], np.int64) for c in (self.preload, bias)]
        fast = register_matmul(products[None], np.ones((1, len(products)), np.int64), self.chain, *channel)
        assert (int(fast.out[0, 0]), *(part[0].tolist() for part in fast[1:])) == ours
        if not any(ours[1]):
            assert ours[0] == sum(self.products) + (self.preload or 0) + (bias or 0)


TestAccumulator = Accumulator.TestCase
TestAccumulator.settings = settings(max_examples=settings().max_examples, stateful_step_count=15)
