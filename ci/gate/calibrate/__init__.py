"""How often both rules are wrong, by simulated and by real noise."""
