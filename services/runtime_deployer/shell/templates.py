"""Runtime templates from the files of an operator: one YAML file a version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from libs.common.errors import Invalid
from services.runtime_deployer.core.pod import WRITTEN
from services.runtime_deployer.core.template_checks import problems
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.shell.schemas import unknown_fields

FILE_BYTES_MAX: Final = 64 * 1024  # A template is a page of text; anything larger is a mistake.

_TEMPLATE: Final = TypeAdapter(with_config(ConfigDict(extra="forbid", hide_input_in_errors=True))(Template))


def load_templates(directory: Path) -> Mapping[str, Template]:
    """Every template in a directory, by `<name>@<version>`.

    Raises Invalid naming the file and the field, or if two files hold the same version, or if there is none.
    """
    found: dict[str, Template] = {}
    for path in sorted(directory.glob("*.yaml")):
        template = _load(path)
        if template.key in found:
            raise Invalid(f"{path}: template {template.key} is already defined by another file; raise its version")
        found[template.key] = template
    if not found:
        raise Invalid(f"{directory} holds no runtime template (*.yaml): set MILLRACE_TEMPLATES_DIR")
    return MappingProxyType(found)


def _load(path: Path) -> Template:
    try:
        text = path.read_bytes()
        if len(text) > FILE_BYTES_MAX:
            raise Invalid(f"{path}: {len(text)} bytes is more than a template may have ({FILE_BYTES_MAX})")
        return _judged(path, _TEMPLATE.validate_python(yaml.safe_load(text)))
    except OSError as wrong:
        raise Invalid(f"{path}: can't be read: {wrong.strerror}") from wrong
    except yaml.YAMLError as wrong:
        raise Invalid(f"{path}: is not YAML: {str(wrong).splitlines()[0]}") from wrong
    except ValidationError as wrong:
        fields = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in wrong.errors(include_input=False)
        )
        raise Invalid(f"{path}: {fields}") from None


def _judged(path: Path, template: Template) -> Template:
    wrong = [f"{field}: {what}" for field, what in problems(template)]
    wrong += [f"pod.{each}: we write that field ourselves, by the template's other fields" for each in _ours(template)]
    wrong += [f"{each}: no pod has such a field" for each in unknown_fields(template.pod, "V1PodSpec", "pod")]
    if wrong:
        raise Invalid(f"{path}: {'; '.join(wrong)}")
    return template


def _ours(template: Template) -> list[str]:
    """The fields of a pod with two owners: the operator's, and ours whatever the endpoint and the template."""
    return sorted(set(template.pod) & set(WRITTEN))
