"""JSON lines: reader, inference of types, and bad records."""
