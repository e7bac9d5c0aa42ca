"""Commands that generate parts of the READMEs."""
