"""Archives in the raw zone, and their members as files there."""
