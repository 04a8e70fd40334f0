"""The experiments that test the claims of papers, one file each; ``kdops.config.papers`` lists them."""
