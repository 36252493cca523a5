"""`python -m intsim.cli`."""

from intsim.cli import main

main()
