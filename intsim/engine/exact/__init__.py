"""Exact sums: words of four bytes, tiles of products, and the instruction that adds them."""
