"""Mergeable partial aggregates and their answers."""
