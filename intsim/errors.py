"""The one exception a user of intsim has to know."""


class IntsimError(ValueError):
    """Bad input: a file, a node, a target, an array or an option that intsim can't accept.

    The message is one line that names the file or node and says what to do; the command line prints it and
    leaves with exit code 2.
    """
