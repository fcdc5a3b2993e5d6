"""MongoDB as a source of records."""
