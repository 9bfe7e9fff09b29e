"""Learning: from the rows of the click log to a fitted network and its quality. Knows no broker and no clock."""
