"""The loops, for numba: only the process that compiles them imports it."""
