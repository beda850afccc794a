"""What a model reads and says: tokens, the frame of a conversation, and text to read."""
