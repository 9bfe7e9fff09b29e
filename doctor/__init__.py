"""`nextclick doctor`: reads the settings, looks at the world, and says what does not fit and what would mend it.

It joins no group, writes nothing and creates nothing. What it says of a start is said by the functions that refuse the
start; what it says of records, by the functions that read them. `search/` is pure: a sample of records in, settings
out.
"""
