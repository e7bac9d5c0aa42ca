"""What makes the environment, and what goes without one: called by the commands in ci/."""
