"""What a user declares, and how it is found and loaded."""
