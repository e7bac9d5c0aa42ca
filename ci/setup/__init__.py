"""Makes the environment, and measures without one; the commands in ci/ call these scripts."""
