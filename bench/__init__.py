"""Side-by-side benchmarks: what a user would pick instead, on the same work, in one run. Reports; asserts nothing."""
