"""Models that turn texts and images into vectors."""
