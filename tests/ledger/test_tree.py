"""The Merkle tree: its roots and paths are those of RFC 9162, and a wrong path proves nothing."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.ledger.tree import (
    EMPTY_ROOT,
    MAX_PATH,
    Frontier,
    consistency_path,
    frontier,
    full_run,
    inclusion_path,
    is_consistent,
    is_included,
    leaf_hash,
    root,
)

# The leaves and roots that Certificate Transparency has published for RFC 6962, whose trees RFC 9162 took over.
LEAVES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
MOST = 40
ENTRIES = [sha256(bytes([each])).digest() for each in range(MOST)]


class Tree:
    """A tree in memory, which gives the hash of each of its full runs."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = entries

    def run(self, level: int, nth: int) -> bytes:
        run = self.entries[nth << level : (nth + 1) << level]
        assert len(run) == 1 << level, "asks for a run that is not full"
        return full_run(list(map(leaf_hash, run)))

    def root(self, size: int) -> bytes:
        return root(size, self.run)


TREE = Tree(ENTRIES)


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_roots_are_the_published_ones(size: int) -> None:
    assert Tree(LEAVES).root(size).hex() == ROOTS[size]
    grown = Frontier()
    for leaf in LEAVES[:size]:
        grown.append(leaf)
    assert grown.root.hex() == ROOTS[size]


@pytest.mark.parametrize("size", range(1, MOST))
def test_every_entry_has_a_path_and_no_other_path_proves_it(size: int) -> None:
    tree = TREE.root(size)
    for index in range(size):
        path = inclusion_path(index, size, TREE.run)
        assert is_included(ENTRIES[index], index, size, tree, path)
        for other in {*range(size + 2)} - {index}:
            assert not is_included(ENTRIES[index], other, size, tree, path)
        # An inner node is no leaf, and the leaf of another index is none of this one.
        assert not is_included(ENTRIES[index + 1], index, size, tree, path)
        for wrong in ([*path, bytes(32)], [bytes(32), *path], path[:-1], path[1:]):
            assert wrong == path or not is_included(ENTRIES[index], index, size, tree, wrong)
        for at in range(len(path)):
            changed = [*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]]
            assert not is_included(ENTRIES[index], index, size, tree, changed)


def test_an_inner_node_does_not_pass_for_an_entry() -> None:
    # Without the prefixes of leaves and nodes, a tree of two leaves would hold this entry.
    left, right = map(leaf_hash, ENTRIES[:2])
    assert not is_included(left + right, 0, 1, TREE.root(2), [])


@pytest.mark.parametrize("size", range(MOST))
def test_a_tree_continues_each_smaller_one_and_no_other(size: int) -> None:
    for old in range(size + 1):
        path = consistency_path(old, size, TREE.run)
        assert is_consistent(old, TREE.root(old), size, TREE.root(size), path)
        assert not is_consistent(old, bytes(32), size, TREE.root(size), path)
        # Anything continues an empty tree.
        assert old == 0 < size or not is_consistent(old, TREE.root(old), size, bytes(32), path)
        assert not is_consistent(old, TREE.root(old), size, TREE.root(size), [*path, bytes(32)])
        assert not is_consistent(size + 1, TREE.root(size), size, TREE.root(size), path)
        if path:
            assert not is_consistent(old, TREE.root(old), size, TREE.root(size), path[:-1])
            assert not is_consistent(old, TREE.root(old), size, TREE.root(size), path[1:])


@given(st.integers(1, MOST - 1), st.data())
def test_a_tree_with_one_other_entry_is_another_history(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    at = data.draw(st.integers(0, old - 1))
    other = Tree([*ENTRIES[:at], bytes(32), *ENTRIES[at + 1 :]])
    path = consistency_path(old, size, other.run)
    assert is_consistent(old, other.root(old), size, other.root(size), path)
    assert not is_consistent(old, TREE.root(old), size, other.root(size), path)


@given(st.integers(0, MOST), st.data())
def test_a_frontier_grows_as_the_tree_does(size: int, data: st.DataObject) -> None:
    begun = data.draw(st.integers(0, size))
    grown = frontier(begun, TREE.run)
    for entry in ENTRIES[begun:size]:
        grown.append(entry)
    assert (grown.size, grown.root) == (size, TREE.root(size))
    assert grown.hashes == frontier(size, TREE.run).hashes


def test_a_frontier_with_another_number_of_hashes_is_refused() -> None:
    for size, hashes in ((3, [bytes(32)]), (0, [bytes(32)]), (-1, [bytes(32)])):
        with pytest.raises(ValueError, match="another number of full runs"):
            Frontier(size, hashes)


def test_a_path_beyond_the_limit_is_refused() -> None:
    size = 1 << MAX_PATH + 1
    assert not is_included(ENTRIES[0], 0, size, bytes(32), [bytes(32)] * (MAX_PATH + 1))
    assert not is_consistent(1, EMPTY_ROOT, size, bytes(32), [bytes(32)] * (MAX_PATH + 1))
