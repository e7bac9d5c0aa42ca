"""Figures and tables out of histories, for people."""
