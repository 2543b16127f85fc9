"""C++ as text: nothing here starts a process."""
