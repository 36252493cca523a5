"""Golden vectors: what each layer reads, holds and makes on a target, in files, and dumps held against them."""
