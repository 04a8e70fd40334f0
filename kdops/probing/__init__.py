"""What a trained network does beyond its accuracy: how far an image must be changed until it is taken for another."""
