"""What a Dask worker runs: read, clean, check and stage one split."""
