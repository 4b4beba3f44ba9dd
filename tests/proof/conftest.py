"""One proof in which everything happened, for tests that only read it; and a lab for those that make their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.authority.opening import OpenedTask
from capx.proof import Proof, Report, Trust
from tests.labs.proving import ProofLab, full_trust, read


class Told:
    """The proof of a whole task, who trusts what, and what it shows."""

    def __init__(self, lab: ProofLab, task: OpenedTask, proof: Proof) -> None:
        self.lab = lab
        self.task = task
        self.proof = proof
        self.trust: Trust = full_trust(lab)
        self.report: Report = read(proof, self.trust)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    lab = ProofLab(tmp_path_factory.mktemp("proof"))
    yield Told(lab, *lab.whole())
    lab.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProofLab]:
    made = ProofLab(tmp_path)
    yield made
    made.close()
