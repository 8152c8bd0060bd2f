"""The ways to billing systems: each sends intents and says of each how it ended. No rules, no record."""
