"""Profiles, aggregates, search and embedders."""
