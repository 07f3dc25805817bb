"""Training loops of a user, and the model they train."""
