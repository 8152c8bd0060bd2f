"""What endpoint-api thinks: values in, values out."""
