"""Millrace from Python: ``Millrace(url, key).endpoints.create(...)``.

Small on purpose: answers are the JSON of the OpenAPI document as dicts, errors are `Refused` with the problem's code.
"""

from libs.client.millrace import Millrace
from libs.client.transport import Json, Refused

__all__ = ["Json", "Millrace", "Refused"]
