"""A guess where there is no compiler."""
