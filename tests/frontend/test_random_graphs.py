"""Random chains and diamonds of 3 to 8 operators, against the reference, element by element."""

import pytest
from hypothesis import given, settings

import intsim
from intsim.errors import IntsimError
from intsim.testing.graphs import qonnx_models

from .build import check


def compared(case):
    try:
        intsim.load(case.model)
    except IntsimError as error:
        # a product of many scales may need more than 64 bits, or a grid too coarse for its quantizer; nothing else here
        # may be refused
        if any(why in str(error) for why in ("bits", "zero point for each channel", "only known to within")):
            return
        raise
    check(case.model, case.inputs, 2)


@given(qonnx_models())
@settings(max_examples=4 * settings().max_examples)
def test_random_graphs(case):
    compared(case)


@pytest.mark.slow
@given(qonnx_models())
@settings(max_examples=3000)
def test_many_random_graphs(case):
    compared(case)
