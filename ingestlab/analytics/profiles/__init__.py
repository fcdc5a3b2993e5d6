"""What a table's columns look like: made while rows are published, merged when asked, compared over time."""
