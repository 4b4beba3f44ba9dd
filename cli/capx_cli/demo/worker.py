"""One agent at work: a name, a credential, and a client that shows it to the services.

Law: both sides run the same code. Only the kind of the credential differs.
"""

from typing import Any, Final

import httpx

from capx import AgentKey
from capx_cli.demo.credential import Credential
from capx_cli.demo.data import ACCOUNT, DECK, TENANT, TICKET
from capx_cli.demo.process import DemoProblem

READ: Final = ["crm.accounts.read", "support.tickets.read", "warehouse.tables.list", "slides.read"]
"""The actions that every agent may do at the four services."""

HARMLESS: Final = {
    "crm": f"/accounts/{ACCOUNT}",
    "support": f"/tickets/{TICKET}",
    "slides": f"/decks/{DECK}",
    "warehouse": f"/tables?tenant={TENANT}",
}
"""A call at each service that every agent may make."""


class Worker:
    """An agent of the demo."""

    def __init__(self, name: str, credential: Credential, services: dict[str, str]) -> None:
        self.name = name
        self.credential = credential
        self.services = services
        self.client = credential.client(services)

    def get(self, service: str, path: str, **params: str) -> Any:
        """Read something that the work needs; DemoProblem if the service does not serve it."""
        return _done(self.client.get(self.services[service] + path, params=params or None))

    def write(self, position: int, heading: str, text: str) -> httpx.Response:
        """Write one slide."""
        url = f"{self.services['slides']}/decks/{DECK}/slides/{position}"
        return self.client.put(url, json={"heading": heading, "text": text})

    def publish(self) -> httpx.Response:
        """Publish the deck to the customer."""
        return self.client.post(f"{self.services['slides']}/decks/{DECK}/publish")

    def credit(self, dollars: int, client: httpx.Client | None = None) -> httpx.Response:
        """Credit the account, with the client of this agent unless another one is given."""
        url = f"{self.services['crm']}/accounts/{ACCOUNT}/credit"
        return (client or self.client).post(url, json={"amount": dollars})

    def helper(self, name: str) -> "Worker":
        """Share the right to read with a helper in this process."""
        credential = self.credential.shared(to=name, to_key=AgentKey.generate(name), allow=READ)
        return Worker(name, credential, self.services)

    def probe(self) -> dict[str, Any]:
        """Try one harmless call at each service; return the node and the reasons of each denial, under the name."""
        tried = {service: self.client.get(self.services[service] + path) for service, path in HARMLESS.items()}
        refused = {service: reasons(response) for service, response in tried.items()}
        return {self.name: {"node": self.credential.node, "refused": refused}}


def problem(response: httpx.Response) -> dict[str, Any]:
    """Return the problem document of a failed call; empty if the call was served."""
    if response.is_success:
        return {}
    body: dict[str, Any] = response.json()
    return body


def reasons(response: httpx.Response) -> list[str]:
    """Return the codes of all reasons for which a call was denied, or its status; empty if it was served."""
    said = problem(response)
    return [reason["code"] for reason in said.get("reasons", ())] or ([str(response.status_code)] if said else [])


def _done(response: httpx.Response) -> Any:
    if not response.is_success:
        raise DemoProblem(f"{response.request.method} {response.request.url}: {response.status_code} {response.text}")
    return response.json()
