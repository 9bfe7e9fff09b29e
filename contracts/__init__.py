"""What other teams build on, as documents that are made of the types: `python -m contracts --write` publishes them.

They lie in docs/contracts, and a test compares them with the types: whoever changes a type changes a contract, says so
by its version, and publishes it. No program imports this package.
"""
