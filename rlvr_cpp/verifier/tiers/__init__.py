"""The ways a verdict can be obtained, strongest first."""
