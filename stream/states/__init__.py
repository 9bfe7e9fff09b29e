"""Where user states are kept: the local folder, the changelog, and how states come back from it."""
