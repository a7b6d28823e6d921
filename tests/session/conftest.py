import pytest

import npusim
from tests.session import small


@pytest.fixture(scope="session")
def chain():
    return small.chain()


@pytest.fixture(scope="session")
def several():
    return small.several()


@pytest.fixture(scope="session")
def chain_built(chain):
    return npusim.build(chain, npu_mode="NPU2")


@pytest.fixture(scope="session")
def several_built(several):
    return npusim.build(several)
