"""Tests that need the candidate's own types, in a process of their own: expressions are asked for, values travel.

`cut.py` and its neighbours write the two texts, `plan.py` fixes where to cut and what travels, `through_observer.py`
judges by it, and `observer.h` is what runs on both sides.
"""
