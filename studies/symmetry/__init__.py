"""Studies of symmetries, each of which can be run by itself."""
