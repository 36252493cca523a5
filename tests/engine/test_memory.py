"""Buffers in a block of memory: none overlaps another that lives at the same time, and the block isn't wasteful."""

from hypothesis import given
from hypothesis import strategies as st

from intsim.engine.program.program import Memory

lives = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 500)).map(lambda t: ((t[0], t[0] + t[1]), t[2])),
    max_size=30,
)


def most_at_once(spans, sizes):
    steps = range(max((last for _, last in spans.values()), default=0) + 1)
    return max((sum(sizes[k] for k, (a, b) in spans.items() if a <= s <= b) for s in steps), default=0)


@given(lives)
def test_nothing_overlaps(drawn):
    spans = {i: span for i, (span, _) in enumerate(drawn)}
    sizes = {i: size for i, (_, size) in enumerate(drawn)}
    memory = Memory(sizes, spans)
    for a in spans:
        assert memory.begin[a] % Memory.ALIGN == 0
        assert memory.begin[a] + sizes[a] <= memory.size
        for b in spans:
            together = spans[a][0] <= spans[b][1] and spans[b][0] <= spans[a][1]
            if a < b and together and sizes[a] and sizes[b]:
                apart = memory.begin[a] + sizes[a] <= memory.begin[b] or memory.begin[b] + sizes[b] <= memory.begin[a]
                assert apart, (a, b)


def test_a_chain_takes_two_buffers():
    """However deep a network is: each layer reads one buffer and writes another."""
    sizes, spans = dict.fromkeys(range(200), 1600), {i: (i, i + 1) for i in range(200)}
    assert Memory(sizes, spans).size == 2 * 1600


def test_a_gap_is_filled_and_joined_to_its_neighbours():
    sizes = {0: 160, 1: 160, 2: 160, 3: 480}
    spans = {0: (0, 0), 1: (0, 1), 2: (0, 0), 3: (2, 3)}
    memory = Memory(sizes, spans)
    assert memory.size == 480
    assert memory.begin[3] == 0


@given(st.integers(1, 60), st.integers(1, 400))
def test_equal_buffers_take_no_more_than_what_lives(count, size):
    spans = {i: (i, i + 3) for i in range(count)}
    sizes = dict.fromkeys(spans, size)
    rounded = {k: -(-v // Memory.ALIGN) * Memory.ALIGN for k, v in sizes.items()}
    assert Memory(sizes, spans).size == most_at_once(spans, rounded)
