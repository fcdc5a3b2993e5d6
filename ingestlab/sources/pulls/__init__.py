"""Pulls of records: pages on their way into the raw zone."""
