"""Decode a Hilbert output: integers of a two-headed network to one integer of more bits.

`python decode_hilbert.py`. A network predicts the point of a curve at q in 0..1 as two 8-bit codes, and the decoder
returns q with 12 bits, without a multiplication.
"""

import numpy as np

from intsim.hilbert import Decoder


def main():
    """Encode some values, disturb the codes as a network would, decode."""
    decoder = Decoder.lattice_aligned(3, code_bits=8, output_bits=12)
    values = np.linspace(0, decoder.output_max, 8).astype(np.int64)
    codes = decoder.encode(values)
    noisy = np.clip(codes + np.random.default_rng(0).integers(-3, 4, codes.shape), 0, 255)
    for value, point, got in zip(values, noisy, decoder(noisy), strict=True):
        q, decoded = value / decoder.output_max, got / decoder.output_max
        print(f"q {q:.4f}  codes {point[0]:3} {point[1]:3}  decoded {decoded:.4f}")
    assert np.array_equal(decoder(codes), values)
    print("without noise every value comes back")


if __name__ == "__main__":
    main()
