"""Documents in MongoDB: the client, the form of values, and what commits do to collections."""
