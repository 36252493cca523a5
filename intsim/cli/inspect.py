"""The verb `inspect`: the integer layers of a model."""

from functools import partial

from intsim.cli.options import OnModel, finish, result, verb


@verb
@result
def inspect(asked: OnModel) -> None:
    """Show the integer layers of a model: widths, multiply-accumulates, host work."""
    from intsim.inspect import inspect as describe
    from intsim.report.inspection import show_inspection

    content = describe(asked.loaded)
    finish(asked.json_, content, partial(show_inspection, content=content))
