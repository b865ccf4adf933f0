"""The studies of the paper, one a module: each is data, and a command."""
