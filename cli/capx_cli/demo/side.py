"""One side of the demo: four services, an attacker's sink and the agents, all under one kind of credential.

Law: every measurement is made outside the agents: in the data of the services, at the sink, or over HTTP.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from capx_cli.demo.data import SERVICES, expected_deck, is_published, seed, written_credits, written_deck
from capx_cli.demo.process import Child, Children


class Probe(NamedTuple):
    """The outcome of one harmless call at each service: the reasons of a denial, none if it was served."""

    node: str | None
    refused: Mapping[str, list[str]]


class Side:
    """The processes of one side; `name` is `session` or `execution`."""

    def __init__(self, name: str, folder: Path, children: Children) -> None:
        self.name = name
        self._folder = folder
        self._children = children
        self._sink = children.start(f"{name} sink", "sink")
        self._started: dict[str, Child] = {}
        self._agents: Child | None = None
        self.services: dict[str, str] = {}

    def start(self, envs: Mapping[str, Mapping[str, str]]) -> None:
        """Make the data and start the services, each with its variables in `envs`."""
        self._sink_url = f"http://127.0.0.1:{self._sink.hear()['port']}/collect"
        for service in SERVICES:
            data = self._folder / f"{service}.db"
            seed(service, data, sink=self._sink_url)
            env = {**envs[service], "DEMO_DATA": str(data)}
            self._started[service] = self._children.start(
                f"{self.name} {service}", "services", service, self.name, env=env
            )

    def work(self, env: Mapping[str, str], intent: str, task: str) -> None:
        """Start the orchestrator on a task of a signed intent, with its credential in these variables."""
        # Read only here, so that all services start at the same time.
        self.services = {name: f"http://127.0.0.1:{child.hear()['port']}" for name, child in self._started.items()}
        self._agents = self._children.start(f"{self.name} orchestrator", "agents", "orchestrator", env=env)
        job = {"name": "orchestrator", "side": self.name, "services": self.services, "intent": intent, "task": task}
        self._agents.tell({**job, "authority": env.get("CAPX_AUTHORITY_URL"), "folder": str(self._folder)})

    def events(self) -> Iterator[dict[str, Any]]:
        """Return the steps that the agents report, until the work is done."""
        while (event := self._orchestrator.hear())["step"] != "done":
            yield event

    def probes(self) -> dict[str, Probe]:
        """Let every agent try a harmless call at each service; return the outcomes by agent."""
        answer = self._orchestrator.ask({"do": "probe"})
        return {name: Probe(probe["node"], probe["refused"]) for name, probe in answer.items()}

    def received(self) -> dict[str, int]:
        """Return how many `records` the sink has received, in how many `requests`."""
        counted: dict[str, int] = httpx.get(self._sink_url, trust_env=False).json()
        return counted

    def handed(self) -> list[str]:
        """Return the texts that agents left for each other in files, as far as everybody may read these."""
        return [file.read_text() for file in self._folder.glob("*.handed") if file.stat().st_mode & 0o004]

    def deck(self) -> str:
        """Say how many slides in the slides service are as expected, and whether the deck is published."""
        data = self._folder / "slides.db"
        expected, written = expected_deck(), written_deck(data)
        right = sum(slide == wanted for slide, wanted in zip(written, expected, strict=False))
        return f"{right} of {len(expected)} slides, {'' if is_published(data) else 'not '}published"

    def credits(self) -> list[int]:
        """Return the dollars of each credit in the CRM."""
        return written_credits(self._folder / "crm.db")

    @property
    def _orchestrator(self) -> Child:
        if self._agents is None:
            raise RuntimeError("the agents of this side were not started")
        return self._agents
