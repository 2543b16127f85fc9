"""Rollouts one step ahead of the update."""
