"""The trainer as a running program: the click log, its role in the group, its schedule, and publishing."""
