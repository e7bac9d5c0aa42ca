"""Tests of fixtures/fleet."""
