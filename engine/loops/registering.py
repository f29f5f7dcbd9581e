"""Registering: how a worker enters, and how patiently.

The first time a server that is away is a reason to end, since its address may be wrong; one that says of itself that it
will be ready soon is waited for, until the worker is told to stop. Whoever has worked already waits for any server.
No state.
"""

import random

import anyio

from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable, Outlook

from ..broker.courier import Courier
from ..broker.port import Broker, Registration
from ..observe.seldom import Seldom
from .stop import Stop
from .upkeep import AWAY_PAUSE_S

seldom = Seldom(logger("headrace.worker"))


async def enter(broker: Broker, courier: Courier, registration: Registration, stop: Stop) -> bool:
    """Register for the first time; return False when told to stop while the server was not ready yet.

    Raises:
        BrokerUnavailable: it cannot be reached, or refuses this worker.
    """
    while True:
        try:
            await courier.call(broker.register, registration)
        except BrokerUnavailable as error:
            if error.outlook is not Outlook.PASSES:
                raise
            seldom.warning("server not ready", then="it is asked again", error=str(error))
            with anyio.move_on_after(AWAY_PAUSE_S * random.uniform(0.5, 1.0)):
                await stop.wait_quiet()
            if stop.requested:
                return False
        else:
            return True


async def enter_anew(broker: Broker, courier: Courier, registration: Registration) -> None:
    """Register after the registration was lost, however long the server is away."""
    while True:
        try:
            await courier.call(broker.register, registration)
        except BrokerUnavailable as error:
            seldom.warning("not registered anew", retry_in_s=AWAY_PAUSE_S, error=str(error))
            await anyio.sleep(AWAY_PAUSE_S * random.uniform(0.5, 1.0))
        else:
            return
