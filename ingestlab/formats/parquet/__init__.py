"""Parquet files as sources."""
