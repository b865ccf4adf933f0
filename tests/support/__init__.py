"""What the tests share; nothing in it is a test."""
