"""Sums through a target's registers, addition by addition, in the narrowest exact vectors."""
