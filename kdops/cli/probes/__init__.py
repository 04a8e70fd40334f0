"""What ``kdops probe`` does, one file for each kind of probe."""
