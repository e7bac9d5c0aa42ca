"""Figures and tables of histories, for people."""
