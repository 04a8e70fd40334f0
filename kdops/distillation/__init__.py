"""What a student learns from its source; one file a method."""
