"""What generates parts of the READMEs."""
