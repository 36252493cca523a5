"""Decode a Hilbert output: integers of a two-headed network to one integer of more bits.

`python decode_hilbert.py`. A network predicts the point of a curve at q in 0..1 as two 8-bit codes, and the decoder
returns q with 12 bits, without a multiplication.
"""

import numpy as np

from intsim.hilbert import FixedPointDecoder


def main():
    """Encode some values, disturb the codes as a network would, decode."""
    decoder = FixedPointDecoder.lattice_aligned(3, code_bits=8, output_bits=12)
    values = np.linspace(0, decoder.output_max, 8).astype(np.int64)
    x, y = decoder.encode(values)
    noise = np.random.default_rng(0).integers(-3, 4, (2, 8))
    x_noisy, y_noisy = np.clip([x, y] + noise, 0, 255)
    decoded = decoder(x_noisy, y_noisy)
    for value, point, got in zip(values, zip(x_noisy, y_noisy, strict=True), decoded, strict=True):
        q, back = value / decoder.output_max, got / decoder.output_max
        print(f"q {q:.4f}  codes {point[0]:3} {point[1]:3}  decoded {back:.4f}")
    assert np.array_equal(decoder(x, y), values)
    print("without noise every value comes back")


if __name__ == "__main__":
    main()
