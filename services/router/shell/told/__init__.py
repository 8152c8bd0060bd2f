"""What is heard and told over the bus, beside the data plane."""
