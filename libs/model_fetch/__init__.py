"""The init step of a model: bring its files onto a volume, whole and verified, or say exactly why not.

Runs in a pod of its own as ``python -m libs.model_fetch``, so it stands on the standard library alone.
"""
