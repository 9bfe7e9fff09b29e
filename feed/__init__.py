"""The feed: users' lists over HTTP, from a local copy of the topic of updates."""
