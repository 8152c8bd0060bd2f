"""Parts of the AsyncAPI document that no single event changes: what it is, where it runs, how all is wrapped."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

Json = dict[str, Any]

INFO: Final[Json] = {
    "title": "Millrace on the bus",
    "version": "1",
    "description": (
        "Every message between Millrace and those who depend on it: CloudEvents 1.0 in binary mode on NATS JetStream. "
        "The attributes are headers named `ce-<attribute>`, the body is the data as JSON.\n\n"
        "Each message is delivered at least once: what has the same `ce-id` is the same message. Order holds only "
        "among messages of one `ce-source` about one `ce-subject`: `ce-sequence` is that order. Ignore fields that "
        "you do not know, and treat an unknown value of a choice as one that is of no interest to you. A published "
        "version only ever gains optional fields; anything else is a new version beside it, on the same subject."
    ),
}
SERVERS: Final[Json] = {
    "bus": {
        "host": "{host}:{port}",
        "protocol": "nats",
        "description": "The JetStream of the installation; its operator gives the address and your credentials.",
        "variables": {
            "host": {"description": "Where the operator runs it."},
            "port": {"description": "The client port.", "default": "4222"},
        },
    }
}


def text(description: str, **more: object) -> Json:
    """The schema of a header."""
    return {"type": "string", "description": description, **more}


# Headers are text. Everything but printable ASCII without space, quote and percent is percent-encoded (CloudEvents).
HEADERS: Final[Json] = {
    "type": "object",
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-subject", "ce-time"],
    "properties": {
        "ce-specversion": text("The version of CloudEvents.", const="1.0"),
        "ce-id": text("The same for a message that is sent again; also `Nats-Msg-Id`.", minLength=1),
        "ce-type": text("The event and its version, such as `capacity.reserved.v1`."),
        "ce-source": text("`/` and the service that tells it; nobody else may.", pattern="^/"),
        "ce-subject": text("What it is about, mostly an endpoint's id."),
        "ce-time": text("When it was told: RFC 3339 with a zone.", format="date-time"),
        "ce-dataschema": text("The JSON Schema of the body, as a path from the root of this repository."),
        "ce-generation": text("Which wish for the endpoint it is about; 0 where there is none.", pattern="^[0-9]+$"),
        "ce-sequence": text("The teller's count for this subject; gives the order.", pattern="^[0-9]+$"),
        "ce-causationid": text("The `ce-id` of what led to this."),
        "ce-traceparent": text("W3C trace context."),
        "content-type": text("Of the body.", const="application/json"),
    },
}


class Payloads:
    """The schemas of bodies, collected under `components.schemas` with what they refer to."""

    def __init__(self) -> None:
        self.schemas: Json = {}

    def ref(self, model: type[BaseModel]) -> Json:
        """A reference to the model's schema, which is there from now on."""
        schema = model.model_json_schema(mode="validation", ref_template="#/components/schemas/{model}")
        for name, each in schema.pop("$defs", {}).items():
            self._keep(name, each)
        self._keep(model.__name__, schema)
        return {"$ref": f"#/components/schemas/{model.__name__}"}

    def _keep(self, name: str, schema: Json) -> None:
        assert self.schemas.get(name, schema) == schema, f"two records of the contract are called {name}"
        self.schemas[name] = schema


def slug(name: str) -> str:
    """A name as part of an identifier."""
    return name.replace(" ", "-")
