"""Adapters as something that can be handed on."""
