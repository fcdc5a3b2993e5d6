"""Vectors in Milvus: the client, the rows' form, and what commits do to collections."""
