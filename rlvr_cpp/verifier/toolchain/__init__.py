"""The compiler, and where programs are built and run."""
