"""Small packages named by what they are; nothing here knows a service."""
