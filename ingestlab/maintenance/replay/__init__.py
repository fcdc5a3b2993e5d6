"""Process kept rejects again."""
