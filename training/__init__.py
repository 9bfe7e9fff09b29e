"""The trainer: logs clicks, fine-tunes the network on them, judges the result and publishes it as a bundle.

What never happens here: Faust, and anything of `stream`. The pure parts (sequences, losses, the gate, the schedule)
know neither broker nor clock; `trainer` is the shell that connects them.
"""
