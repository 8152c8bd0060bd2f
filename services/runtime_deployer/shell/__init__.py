"""The tenant clusters, the template files and the settings: parse, call, map."""
