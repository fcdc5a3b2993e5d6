"""Infer the format and types of a file, and write a pipeline for it."""
