"""What an id of a user, an item or an event means: a text, or a whole number."""

EXACT_FLOATS = 2**53  # above, several whole numbers are the same float


def read_id(value: object) -> str:
    """Give an id as text. Many systems number their users and items, and some write the numbers as 12345.0.

    Raises:
        ValueError: it is neither a text nor a whole number; the message says what was found.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if kind is int:
        return str(value)
    if isinstance(value, float):
        if value.is_integer() and abs(value) <= EXACT_FLOATS:
            return str(int(value))
        raise ValueError("a number that is not whole" if abs(value) <= EXACT_FLOATS else "a number that is not exact")
    found = {bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
    raise ValueError(found.get(kind, f"a value of type {kind.__name__}"))
