"""The topics of an application: created, checked, and recognised."""
