"""From a policy and tasks to a better policy."""
