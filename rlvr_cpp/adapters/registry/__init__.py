"""Adapters by project and version, promoted on evidence."""
