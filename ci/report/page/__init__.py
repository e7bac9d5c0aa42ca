"""Cases, figures and the picker as one HTML file that loads nothing over the network."""
