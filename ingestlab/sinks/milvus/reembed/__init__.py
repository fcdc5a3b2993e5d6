"""Make the vectors of a table again."""
