"""The topic `items`: reading it, following it, and what writes to it."""
