"""What a verdict is worth, in our trainers and in others'."""
