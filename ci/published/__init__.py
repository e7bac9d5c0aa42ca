"""Published figures as histories, and predictions compared with them."""
