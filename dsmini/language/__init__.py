"""What a model reads and says: tokens, and text to read."""
