"""What can go wrong, done to a whole application that a real Prometheus watches: the right alert fires, and no other.

Time runs faster for the rules alone (`faster`): a worker starts as slowly, and a broker that is away is away as long.
"""
