"""The rule for runs against stored runs."""
