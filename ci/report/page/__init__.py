"""Cases, figures and the picker as one HTML file that asks nobody for anything."""
