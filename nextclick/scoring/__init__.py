"""Scoring: from what the network says of users, and what counts say, to the exact best items of each.

Read `best_items` first: it is the way of a batch. `packed_items` is how item vectors lie in memory, `sweep` the one
pass over them, `kernel` the instructions of its innermost loop. The rest is what surrounds it: `histories` reads the
clicks that a user's state remembers, `mixing` adds what counts say, with `terms` (what goes in and comes out),
`counted`, `network_part` and `candidates`; `item_lists` writes the lists.
"""
