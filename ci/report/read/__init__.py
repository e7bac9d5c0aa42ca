"""What histories have in them: samples, curves, and what is worked out of them for figures and pages."""
