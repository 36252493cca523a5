"""Results as one HTML file: words, pictures that move, tables; it needs no network."""
