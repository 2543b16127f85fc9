"""What a run is, what it leaves, and what may be concluded from it."""
