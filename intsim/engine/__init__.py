"""Running an integer graph on a target: proofs first, then the fastest exact way, then register by register."""
