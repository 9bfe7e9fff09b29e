"""What can go wrong, split by what the caller should do about it.

Expected cases (a bad click, a repeated click) are values, not exceptions. Everything here ends a program with one
line for the user, which says what is wrong, with the value, and what to do.
"""


class NextclickError(Exception):
    """Root of the errors that the project raises on purpose."""


class PermanentError(NextclickError):
    """Trying again will not help: wrong settings, an incompatible state, a folder that cannot be written."""


class TemporaryError(NextclickError):
    """Trying again can help: a broker that is away, a network that is slow."""


class CorruptStateError(PermanentError):
    """Bytes of a user's state that this version cannot read."""


class BundleError(PermanentError):
    """A bundle that is incomplete, damaged, or made for another version."""
