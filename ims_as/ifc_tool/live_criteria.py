"""The criteria of many users, read over Sh: one connection, so many users at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from diameter.dictionary.sh import DataReference
from diameter.sh.client import ShClient
from diameter.sh.data_reference import ShKeys
from diameter.sh.errors import ShAnswerError, ShError, ShRefusedError, ShUserUnknownError
from diameter.sh.userdata import ShData
from ifc.parser import IfcError, parse_criteria_untrusted
from ims_as.config import Config
from ims_as.ifc_tool.verify import Answers, Expectation, Status, Verdict, judge
from ims_as.isc.server_names import server_name_for
from ims_as.sh_tool import EXIT_NO_PEER, ShSession, ShToolError, describe_result, origin_host_of, with_session

__all__ = ["verify_users"]

MAX_SILENCES = 20
"""So many users in a row without an answer: the HSS is not there."""

_ABSENT = ShData()
_NONE = b"<IFCs/>"


async def verify_users(
    config: Config,
    impus: Sequence[str],
    expected: Expectation,
    *,
    on_verdict: Callable[[Verdict], None],
    dsai_tags: Sequence[str] = (),
    parallel: int = 8,
    origin_host: str | None = None,
    wait_s: float = 5.0,
) -> None:
    """Hands on a verdict for each user, in the order given.

    Args:
        dsai_tags: of the activation of our criteria, where the HSS has any.
        wait_s: seconds for the connection, and for each answer.

    Raises:
        ShToolError: no HSS.
    """

    async def act(session: ShSession) -> None:
        limiter = trio.CapacityLimiter(parallel)
        verdicts: dict[int, Verdict] = {}
        told = n_silent = 0

        async def one(number: int, impu: str) -> None:
            nonlocal told, n_silent
            try:
                verdicts[number] = await _verify(session.client, config, impu, expected, dsai_tags)
            finally:
                limiter.release_on_behalf_of(number)
            while told in verdicts:
                verdict = verdicts.pop(told)
                on_verdict(verdict)
                told += 1
                n_silent = n_silent + 1 if verdict.status is Status.NO_ANSWER else 0
            if n_silent >= MAX_SILENCES:
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for number, impu in enumerate(impus):
                await limiter.acquire_on_behalf_of(number)
                nursery.start_soon(one, number, impu)
        if told < len(impus):
            raise ShToolError(
                f"{n_silent} users in a row without an answer: {told} of {len(impus)} asked", EXIT_NO_PEER
            )

    await with_session(config, origin_host_of(config, origin_host), wait_s, act)


async def _verify(
    client: ShClient, config: Config, impu: str, expected: Expectation, dsai_tags: Sequence[str]
) -> Verdict:
    try:
        ifcs, asked = await _criteria(client, config.identity, impu)
    except ShUserUnknownError as error:
        return Verdict(impu, Status.REFUSED, error=str(error))
    except ShRefusedError as error:
        return Verdict(impu, Status.REFUSED, error=f"the HSS refused: {describe_result(error.result)}")
    except ShAnswerError as error:
        return Verdict(impu, Status.REFUSED, error=str(error))
    except ShError as error:
        return Verdict(impu, Status.NO_ANSWER, error=str(error))
    tags = ShKeys(server_name=config.identity, dsai_tags=tuple(dsai_tags))
    found: dict[DataReference, ShData] = {}

    async def ask(reference: DataReference, keys: ShKeys) -> None:
        """What an HSS refuses here, or has not, is simply not known."""
        try:
            found[reference] = await client.pull(impu, (reference,), keys)
        except ShError:
            found[reference] = _ABSENT

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, DataReference.IMS_USER_STATE, ShKeys())
        nursery.start_soon(ask, DataReference.PSI_ACTIVATION, ShKeys())
        if dsai_tags:
            nursery.start_soon(ask, DataReference.DSAI, tags)
    answers = Answers(
        ifcs,
        asked,
        found[DataReference.IMS_USER_STATE].user_state,
        found[DataReference.PSI_ACTIVATION].psi_activation,
        found.get(DataReference.DSAI, _ABSENT).dsai,
    )
    return judge(impu, answers, expected)


async def _criteria(client: ShClient, identity: str, impu: str) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """(criteria by server name, those names): those of `identity`, and of its names for each session case where the
    HSS compares literally."""
    first = await _criteria_for(client, identity, impu)
    ifcs, asked = [first], [identity]
    if _has_only(first, identity):
        for case in ("terminating", "originating"):
            name = server_name_for(identity, case)
            if name in asked:
                continue
            asked.append(name)
            try:
                ifcs.append(await _criteria_for(client, name, impu))
            except ShRefusedError:
                ifcs.append(_NONE)
    return tuple(ifcs), tuple(asked)


async def _criteria_for(client: ShClient, server_name: str, impu: str) -> bytes:
    data = await client.pull(impu, (DataReference.INITIAL_FILTER_CRITERIA,), ShKeys(server_name=server_name))
    return data.ifcs or _NONE


def _has_only(ifcs: bytes, server_name: str) -> bool:
    """Whether the HSS may have compared literally."""
    try:
        criteria = parse_criteria_untrusted(ifcs).criteria
    except IfcError:
        return True
    return all(each.application_server.server_name == server_name for each in criteria)
