"""Executors of other projects in environments of their own: installing them, and the drivers that run there."""
