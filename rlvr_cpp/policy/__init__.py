"""The model that writes."""
