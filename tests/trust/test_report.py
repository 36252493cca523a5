"""docs/measured/trust.md is what its generator writes, and claims no more than the record holds."""

from intsim.frontend.registry import HANDLERS
from intsim.ops import OPS
from tests.trust import report
from tests.trust.mutation import ROOM, ROOT, without_decorators


def test_the_page_is_that_of_the_generator():
    text = report.PAGE.read_text()
    assert "<!-- this machine -->" in text
    assert report.portable(text) == report.portable(report.page())


def test_every_operator_is_named_by_a_test():
    assert not [name for name in OPS if not report.naming(name)]
    assert not [name for name in HANDLERS if not report.naming(name)]
    assert not report.naming("NoSuchOperator")


def test_mutants_are_killed_or_explained():
    found = report.mutation()
    room = {str(p.relative_to(ROOT)) for p in (ROOT / ROOM).rglob("*.py") if p.name != "__init__.py"}
    assert room == {*found, *report.KERNELS}
    total, alive = (sum(n) for n in zip(*((f["mutants"], len(f["alive"])) for f in found.values()), strict=True))
    assert total > 1000
    assert alive <= 0.05 * total
    without = [(file, a) for file, f in found.items() for a in f["alive"] if report.why(file, a) is None]
    assert not without
    keys = {(file, a["function"], a["old"], a["new"]) for file, f in found.items() for a in f["alive"]}
    stale = [s for s in report.explained() if (s["file"], s["function"], s["old"], s["new"]) not in keys]
    assert not stale


def test_decorators_are_spelled_out():
    source = "class A:\n    @property\n    def b(self):\n        return 1\n\n\n@lru_cache(3)\ndef f():\n    return 2\n"
    wanted = "class A:\n    def b(self):\n        return 1\n    b = property(b)\n\n\ndef f():\n    return 2\n"
    assert without_decorators(source) == wanted
