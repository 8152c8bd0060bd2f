"""What should run and what it means that it does: values in, values out."""
