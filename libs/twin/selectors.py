"""Label and field selectors, as query text and as objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from libs.twin.answers import bad_request
from libs.twin.objects import Json, labels_of

Match = Callable[[Json], bool]

SET_FORM: Final = re.compile(r"^\s*([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
EQUAL_FORM: Final = re.compile(r"^\s*([\w./\[\]'-]+)\s*(==|=|!=)\s*([^=!]*?)\s*$")
EXISTS_FORM: Final = re.compile(r"^\s*(!?)\s*([\w./-]+)\s*$")
SPLIT: Final = re.compile(r",(?![^(]*\))")


def labels_match(text: str) -> Match:
    """A `labelSelector` as a test. Raises 400 for text that is none."""
    tests = [_label_test(each) for each in SPLIT.split(text) if each.strip()]
    return lambda thing: all(test(labels_of(thing)) for test in tests)


def fields_match(text: str) -> Match:
    """A `fieldSelector` as a test. Raises 400 for text that is none."""
    tests: list[Match] = []
    for each in text.split(","):
        if not each.strip():
            continue
        form = EQUAL_FORM.match(each)
        if form is None:
            raise bad_request(f"unable to parse field selector {each!r}")
        tests.append(_field_test(form.group(1), form.group(3), wanted=form.group(2) != "!="))
    return lambda thing: all(test(thing) for test in tests)


def selector_matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a `LabelSelector` object picks something with these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _expression_holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise bad_request(f"{other!r} is not a valid label selector operator")


def _label_test(text: str) -> Callable[[Mapping[str, str]], bool]:
    if form := SET_FORM.match(text):
        key, verb, values = form.group(1), form.group(2), {each.strip() for each in form.group(3).split(",")}
        return lambda labels: (labels.get(key) in values) is (verb == "in")
    if form := EQUAL_FORM.match(text):
        name, sign, value = form.groups()
        return lambda labels: (labels.get(name) == value) is (sign != "!=")
    if form := EXISTS_FORM.match(text):
        absent, label = form.groups()
        return lambda labels: (label in labels) is not bool(absent)
    raise bad_request(f"unable to parse requirement: {text!r}")


def _field_test(path: str, value: str, *, wanted: bool) -> Match:
    steps = path.split(".")

    def test(thing: Json) -> bool:
        found: object = thing
        for step in steps:
            found = found.get(step, "") if isinstance(found, dict) else ""
        text = str(found).lower() if isinstance(found, bool) else str(found)
        return (text == value) is wanted

    return test
