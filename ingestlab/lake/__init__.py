"""The lake: storage, layout, the log of commits, locks, and the index of committed sources."""
