"""Storage of a lake: a local folder, or any object store that fsspec knows."""
