"""One vault for all tests that only need some tenant in it, and fresh ones for those that need their own."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

import clients  # noqa: E402
from support import TRESOR, Client, Tresor  # noqa: E402


@pytest.fixture(scope="session")
def tresor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tresor]:
    """The shared vault, as the first start leaves it: with the sample."""
    assert TRESOR.exists(), f"{TRESOR} is missing: run `cargo build`"
    with Tresor(tmp_path_factory.mktemp("shared")) as tresor:
        yield tresor.start()


@pytest.fixture
def operator(tresor: Tresor) -> Client:
    """The shared vault's client that may do everything."""
    return tresor.operator


@pytest.fixture
def order_service(tresor: Tresor) -> Client:
    """The shared vault's client that may resolve and watch."""
    return tresor.order_service


_numbers = itertools.count(1)


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test uses."""
    return f"firm-{next(_numbers)}"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Tresor]:
    """A vault of the test's own, not yet started."""
    with Tresor(tmp_path / "own") as tresor:
        yield tresor


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tresor]:
    """The vault that is attacked. Whatever befalls it, the others have theirs."""
    with Tresor(tmp_path_factory.mktemp("target")) as target:
        yield target.start()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--client", action="append", default=[], metavar="NAME=COMMAND", help="test this client of docs/clients/ too"
    )


def pytest_configure(config: pytest.Config) -> None:
    for option in config.getoption("--client"):
        clients.add(option)
