"""No form of a link-local address is connected to, and a private one only where the file says so."""

import pytest

from capx.server.notify.addresses import look_up, refusal

NEVER = [
    "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1",
    "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "::", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:224.0.0.1",
    "::169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::169.254.169.254", "::ffff:0:169.254.169.254",
    "2002:a9fe:a9fe::1", "::ffff:a9fe:a9fe",
    "2606:4700::0:5efe:169.254.169.254", "2606:4700::200:5efe:169.254.169.254", "::0:5efe:169.254.169.254",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "fc00::1",
    "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::1",
    "168.63.129.16", "192.0.0.192", "::ffff:168.63.129.16", "64:ff9b::192.0.0.192",
    "2606:4700::0:5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1",
]  # fmt: skip
METADATA = [
    "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "::ffff:100.100.100.200", "64:ff9b::100.100.100.200",
    "2002:6464:64c8::1", "2606:4700::200:5efe:100.100.100.200",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "2606:4700::200:5efe:1.1.1.1"]


@pytest.mark.parametrize("address", NEVER)
def test_link_local_addresses_are_refused_in_every_form(address: str) -> None:
    assert refusal(address, private=True) == "is link-local, or not the address of one machine"
    assert refusal(address, private=False) is not None


@pytest.mark.parametrize("address", METADATA)
def test_where_a_cloud_gives_keys_nobody_connects(address: str) -> None:
    assert refusal(address, private=True) == "is one at which a cloud gives out keys"
    assert refusal(address, private=False) is not None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_for_private_hooks(address: str) -> None:
    assert refusal(address, private=True) is None
    assert refusal(address, private=False) == "is not public: such a hook needs private = true"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_for_all(address: str) -> None:
    assert refusal(address, private=False) is None
    assert refusal(address, private=True) is None


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"])
def test_other_spellings_of_an_address_are_refused(host: str) -> None:
    assert [refusal(address, private=True) for address in look_up(host, 80)] == [refusal(NEVER[0], private=True)]


def test_a_name_has_each_address_once() -> None:
    found = look_up("localhost", 80)
    assert len(set(found)) == len(found) > 0
