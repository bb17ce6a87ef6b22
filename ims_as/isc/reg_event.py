"""The reg event package (RFC 3680; TS 24.229 §5.7.1.1): following the registration of users whom the S-CSCF told of.

A third-party REGISTER starts a subscription to the user's registration state at that S-CSCF; what it tells goes into
the `RegistrationTable`. One subscription serves an implicit set. An S-CSCF that refuses is left alone for an hour:
without the package everything works, only less is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ims_as.isc.charging import read_charging_vector_untrusted
from ims_as.isc.reginfo import Applied, RegInfoState, RegRecord, parse_reginfo_untrusted
from ims_as.isc.registration import RegisteredContact, Registration, RegistrationTable, impu_key
from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.event_headers import EventType
from ims_as.sip.message import Request
from ims_as.sip.subscription import Notified, Subscriber, SubscriptionEnded, SubscriptionEvent
from ims_as.sip.timers import TimerHandle
from ims_as.sip.uri import SipUri, parse_uri
from ims_as.sip.user_agent import UserAgent

__all__ = ["MAX_SUBSCRIPTIONS", "RegEvents"]

MAX_SUBSCRIPTIONS: Final = 20_000
"""Users beyond are known by their REGISTERs alone."""
REFUSAL_S: Final = 3600.0
"""How long an S-CSCF that refused is left alone."""
MARGIN_S: Final = 600
"""The subscription is asked for longer than the registration lasts (TS 24.229 §5.7.1.1)."""
REFRESH_PAUSE_S: Final = 30.0
"""Between two refreshes because of missing versions."""
UNSUBSCRIBE_BATCH: Final = 200
UNSUBSCRIBE_PAUSE_S: Final = 0.02
_MAX_REFUSALS: Final = 1000
_REFUSING: Final = frozenset({403, 404, 405, 406, 420, 489, 501, 603})
_REG: Final = EventType("reg")
_CONTENT_TYPE: Final = "application/reginfo+xml"


@attrs.define(eq=False)
class _Watch:
    """One subscription."""

    registration: Registration
    charging: tuple[tuple[str, str], ...]
    state: RegInfoState = attrs.Factory(RegInfoState)
    subscriber: Subscriber | None = None
    again: TimerHandle | None = None
    refreshed_at: float = float("-inf")


class RegEvents:
    """All subscriptions of a server.

    Args:
        identity: our SIP URI, the subscriber.
        wall: the clock of the table.
        own_ioi: for P-Charging-Vector.
    """

    def __init__(
        self,
        user_agent: UserAgent,
        table: RegistrationTable,
        *,
        identity: str,
        own_ioi: str,
        wall: Callable[[], float],
        max_subscriptions: int = MAX_SUBSCRIPTIONS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """``subscribed``, ``notified``, ``malformed``, ``gap``, ``stale``, ``refused``, ``ended``, ``too-many``."""
        self._user_agent = user_agent
        self._endpoint = user_agent.endpoint
        self._table = table
        self._identity = identity
        self._own_ioi = own_ioi
        self._wall = wall
        self._max_subscriptions = max_subscriptions
        self._watches: dict[str, _Watch] = {}
        self._refusals: dict[str, float] = {}
        self._is_closing = False
        self._on_ended: Callable[[], object] | None = None

    def __len__(self) -> int:
        return len(self._watches)

    def note_register(self, request: Request) -> None:
        """After `RegistrationTable.receive_register` has taken it."""
        registration = self._table.get(request.to.uri_text, now=self._wall())
        if registration is None or self._is_closing:
            return  # de-registered: the subscription tells whether there is another contact, or ends by itself
        key = impu_key(registration.impu)
        vector = read_charging_vector_untrusted(request)
        charging = () if vector is None else (("P-Charging-Vector", str(vector.in_dialog(self._own_ioi))),)
        watch = self._watches.get(key)
        if watch is not None:
            watch.registration, watch.charging = registration, charging
            return
        if self._is_in_watched_set(key) or self._is_refusing(registration.scscf_uri):
            return
        if len(self._watches) >= self._max_subscriptions:
            self.counts["too-many"] += 1
            return
        self._subscribe(key, _Watch(registration, charging))

    def close(self, on_ended: Callable[[], object]) -> None:
        """End all subscriptions, in batches; nothing new begins. `on_ended` is called when none is left."""
        self._is_closing = True
        self._on_ended = on_ended
        self._unsubscribe_some(list(self._watches))
        self._check_ended()

    # ---------------------------------------------------------------- inside

    def _is_in_watched_set(self, key: str) -> bool:
        """Whether a subscription to another identity of the same implicit set tells of this one as well."""
        registration = self._table.get(key, now=self._wall())
        others = () if registration is None else registration.associated_uris
        watches = (self._watches.get(impu_key(other)) for other in others)
        return any(
            impu_key(record.aor) == key for watch in watches if watch is not None for record in watch.state.records
        )

    def _is_refusing(self, scscf_uri: str) -> bool:
        until = self._refusals.get(scscf_uri)
        if until is None:
            return False
        if until > self._endpoint.now():
            return True
        del self._refusals[scscf_uri]
        return False

    def _subscribe(self, key: str, watch: _Watch) -> None:
        registration = watch.registration
        watch.again = None
        watch.state.expect_anew()
        try:
            scscf = parse_uri(registration.scscf_uri)
            if not isinstance(scscf, SipUri):
                raise SipParseError("the S-CSCF has no SIP URI")
            watch.subscriber = Subscriber.subscribe(
                self._user_agent,
                uri=registration.impu,
                from_=f"<{self._identity}>",
                to=f"<{registration.impu}>",
                event=_REG,
                expires_s=min(registration.expires_s, 2**31) + MARGIN_S,
                accept=_CONTENT_TYPE,
                route=[f"<{scscf.with_params(lr=None)}>"],
                headers=[("P-Asserted-Identity", f"<{self._identity}>"), *watch.charging],
                on_event=lambda _, event: self._on_event(key, watch, event),
            )
        except (SipParseError, LocalProtocolError):
            self.counts["malformed"] += 1
            self._watches.pop(key, None)
            return
        self.counts["subscribed"] += 1
        self._watches[key] = watch

    def _on_event(self, key: str, watch: _Watch, event: SubscriptionEvent) -> None:
        match event:
            case Notified(request=request):
                self._receive_notify(watch, request)
            case SubscriptionEnded():
                self._receive_end(key, watch, event)

    def _receive_notify(self, watch: _Watch, request: Request) -> None:
        self.counts["notified"] += 1
        if not request.body:
            return
        try:
            if request.content_type != _CONTENT_TYPE:
                raise SipParseError("no reginfo")
            applied = watch.state.apply(parse_reginfo_untrusted(request.body))
        except SipParseError:
            self.counts["malformed"] += 1
            return
        if applied is Applied.DONE:
            self._feed(watch)
        else:
            self.counts[applied.value] += 1
        now = self._endpoint.now()
        if applied is Applied.GAP and now - watch.refreshed_at >= REFRESH_PAUSE_S and watch.subscriber is not None:
            watch.refreshed_at = now
            if watch.subscriber.refresh():
                watch.state.expect_anew()

    def _feed(self, watch: _Watch) -> None:
        """Into the table: what is bound now, and which identities are registered with it."""
        records = watch.state.records
        own = impu_key(watch.registration.impu)
        active = [record for record in records if record.state == "active" and record.active_contacts]
        for record in records:
            if record.state == "terminated":
                self._table.remove(record.aor)
        about = next((record for record in active if impu_key(record.aor) == own), None)
        if about is None:
            return
        now = self._wall()
        contacts = self._contacts(watch, about, now)
        known = [contact.expires_s for contact in about.active_contacts]
        latest = None if None in known else now + max(each for each in known if each is not None)
        identities = [record.aor for record in active if impu_key(record.aor) != own]
        if not self._table.update(
            watch.registration.impu, now=now, contacts=contacts, identities=identities, expires_at=latest
        ):
            # a de-registration of one contact was not the last one's
            self._table.restore(attrs.evolve(watch.registration, expires_at=latest or now), contacts, now=now)

    def _contacts(self, watch: _Watch, record: RegRecord, now: float) -> Iterable[RegisteredContact]:
        """The active contacts; features come from the REGISTERs, since the document does not know them."""
        registration = self._table.get(watch.registration.impu, now=now) or watch.registration
        known = {contact.uri: contact for contact in registration.contacts}
        found = []
        for contact in record.active_contacts:
            lasts = registration.expires_at if contact.expires_s is None else now + contact.expires_s
            before = known.get(contact.uri)
            if before is None:
                found.append(RegisteredContact(contact.uri, lasts, q=contact.q))
            else:
                found.append(attrs.evolve(before, expires_at=lasts, q=contact.q))
        return found

    def _receive_end(self, key: str, watch: _Watch, event: SubscriptionEnded) -> None:
        watch.subscriber = None
        self.counts["ended"] += 1
        if event.reason == "refused":
            self.counts["refused"] += 1
            if event.status in _REFUSING:
                if len(self._refusals) >= _MAX_REFUSALS:
                    self._refusals.clear()
                self._refusals[watch.registration.scscf_uri] = self._endpoint.now() + REFUSAL_S
        is_notifiers_wish = event.status is None and event.reason not in ("no-notify", "no answer", "unreachable")
        is_registered = self._table.get(watch.registration.impu, now=self._wall()) is not None
        if event.retry_after_s is None or not is_notifiers_wish or not is_registered or self._is_closing:
            # what failed is tried again with the user's next REGISTER
            self._watches.pop(key, None)
            self._check_ended()
            return
        when = self._endpoint.now() + max(event.retry_after_s, 1.0)
        watch.again = self._endpoint.call_at(when, lambda: self._subscribe(key, watch))

    def _unsubscribe_some(self, keys: list[str]) -> None:
        for key in keys[:UNSUBSCRIBE_BATCH]:
            watch = self._watches.get(key)
            if watch is None:
                continue
            if watch.again is not None:
                watch.again.cancel()
                del self._watches[key]
                self._check_ended()
            elif watch.subscriber is not None:
                watch.subscriber.unsubscribe()
        left = keys[UNSUBSCRIBE_BATCH:]
        if left:
            self._endpoint.call_at(self._endpoint.now() + UNSUBSCRIBE_PAUSE_S, lambda: self._unsubscribe_some(left))

    def _check_ended(self) -> None:
        if self._on_ended is not None and not self._watches:
            on_ended, self._on_ended = self._on_ended, None
            on_ended()
