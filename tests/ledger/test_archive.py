"""An archive is read beside the store that it came from. tests/authority/test_archiving.py makes them."""

from pathlib import Path

from capx.ledger import Archive
from capx.ledger.archive import file_of, part_of
from capx.ledger.ledger_lines import MAX_LINE
from capx.store.factory import create_store
from tests.labs.archives import OldLog


def test_decisions_are_found_by_text_and_id(tmp_path: Path) -> None:
    old = OldLog(create_store(str(tmp_path / "capx.db")), tmp_path)
    old.authority.archive(old.folder)
    archive = Archive(old.folder)
    with old.store.read() as reading:
        found = archive.decision(reading, old.ids[7])
        assert found is not None
        assert found.facts()["id"] == old.ids[7]
        assert archive.decision(reading, "d.none") is None
        assert len(list(archive.decisions(reading, naming=old.tasks[1]))) == 400
        denied = archive.decisions(reading, matches=lambda event: b'"denied"' in event.body)
        assert {event.facts()["outcome"] for event in denied} == {"denied"}
    file = file_of(old.folder, 1)
    part = part_of(file, old.authority.checkpoints.public_keys())
    with old.store.read() as reading:
        assert part.demand_fits(reading, first=1) == 1024
    assert max(map(len, file.read_bytes().splitlines())) < MAX_LINE
    old.authority.close()
