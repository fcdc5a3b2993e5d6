"""CSV: dialects, headers, splits, and bad records."""
