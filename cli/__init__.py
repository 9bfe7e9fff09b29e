"""The command line: the topmost layer, which may import every other, and does so only when a command runs."""
