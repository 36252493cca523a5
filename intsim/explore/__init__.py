"""Looking for better arithmetic: what one run says of all widths, and sweeps over widths."""

__all__ = ["cost"]
