"""What a run says, and how it is read back."""
