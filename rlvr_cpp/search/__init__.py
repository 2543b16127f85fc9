"""Choose among several candidates."""
