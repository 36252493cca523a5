"""The verb `inspect`: the integer layers of a model."""

from intsim.cli.options import OnModel, console, emit, verb


@verb
def inspect(asked: OnModel) -> None:
    """Show the integer layers of a model: widths, multiply-accumulates, host work."""
    from intsim.inspect import inspect as describe
    from intsim.report.inspection import show_inspection

    content = describe(asked.loaded)
    emit(content) if asked.json_ else show_inspection(console(), content)
