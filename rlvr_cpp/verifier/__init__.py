"""Judge C++ with a real compiler."""
