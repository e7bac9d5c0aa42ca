"""Parameters of the latency formula: fitted, validated on points of others, and kept as data."""
