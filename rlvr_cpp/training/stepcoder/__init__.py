"""StepCoder: a curriculum of prefixes, and masks of tokens."""
