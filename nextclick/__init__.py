"""What the stream and the trainer share: clicks, user state, the network, bundles, ranking metrics, settings.

Nothing here talks to a broker, reads the clock or the environment, or draws a random number of its own: all of
these arrive as arguments. The one exception is `client`, with which other programs ask a feed; nothing here imports
it. Lower modules never import higher ones (the order is checked, see pyproject.toml).
"""

__version__ = "0.1.0"
