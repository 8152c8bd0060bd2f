"""`millrace login`: a person's credentials, from an OpenID provider; renewed while the provider agrees."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated, Final

import typer

from libs.cli.credentials import Credentials, save, saved
from libs.cli.output import one_line_errors
from libs.client.signin import sign_in

SCOPE: Final = "openid offline_access"


@one_line_errors
def login(
    name: Annotated[str, typer.Argument(help="Name of the profile that is saved.")],
    issuer: Annotated[str, typer.Option(help="Where you sign in, as endpoint-api's operator named it.")],
    client_id: Annotated[str, typer.Option(help="What the provider calls this command.")],
    api_url: Annotated[str, typer.Option(help="Base URL of the endpoint API.")],
    audience: Annotated[str, typer.Option(help="What the provider calls the API; left out: its URL.")] = "",
    scope: Annotated[str, typer.Option(help="What to ask the provider for.")] = SCOPE,
    router_url: Annotated[str, typer.Option(help="Base URL of the model traffic.")] = "",
    usage_url: Annotated[str, typer.Option(help="Base URL of the usage API.")] = "",
    project: Annotated[str, typer.Option("--in", help="<tenant>/<project>, for a member of several.")] = "",
    browser: Annotated[bool, typer.Option(help="Open a browser; else the address is only printed.")] = True,
) -> None:
    """Sign in as a person, and save that as a profile; use it with --profile."""

    def show(url: str) -> None:
        sys.stderr.write(f"sign in at {url}\n")
        if browser:
            webbrowser.open(url)

    session = sign_in(issuer, client_id, resource=audience or api_url, scope=scope, show=show)
    found = Credentials(api_url, router_url, usage_url, project=project).of(session)
    save({**saved(), name: found})
    sys.stdout.write(f"signed in; use it with --profile {name}\n")
