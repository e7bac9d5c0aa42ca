"""The rule for base and new side by side, and how they are measured."""
