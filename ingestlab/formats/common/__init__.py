"""What several formats share: encodings, compression, types, null markers, splits."""
