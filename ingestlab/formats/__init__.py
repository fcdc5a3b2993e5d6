"""Formats of files: one file or package each."""
