"""What every register width would have seen, in one run."""
