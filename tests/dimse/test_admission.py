"""Who may open an association: by title, address, certificate, user and right."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from access import TokenAuthority
from access.users import User, Users
from dimse.association.admission import Admission, AdmissionConfig, Admitted, Applicant, Rejected
from dimse.association.identity import (
    JWT,
    KERBEROS,
    PASSCODE,
    SAML,
    USERNAME,
    Identities,
    UserIdentity,
)
from dimse.peer_table import PeerTable
from dimse.peers import ALL_RIGHTS, Peer

VERIFICATION = "1.2.840.10008.1.1"
STORE, LOOK = frozenset({"store"}), frozenset({"query", "retrieve"})
PASSWORD = "correct horse battery"
CT = Peer("ct", "CT1", "10.1.0.7", 104, rights=STORE, addresses=("10.1.0.0/16",))


@pytest.fixture
def admission_for(peers_dsn, peers):
    """An admission with these peers in the table; closed at the end."""
    made = []

    def make(*entries, identities=None, **config):
        for peer in entries:
            peers.add(peer)
        made.append(
            Admission(AdmissionConfig(**config), PeerTable(peers_dsn, refresh_s=0.05), identities)
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def identities(peers_dsn, tmp_path_factory):
    users = Users(peers_dsn)
    users.add(User("anna", "Anna", "radiologist"), PASSWORD)
    users.add(User("tom", "Tom", "technologist"), PASSWORD)
    users.add(User("pat", "Pat", "patient", "Patient/1"), PASSWORD)
    users.add(User("gone", "Gone", "radiologist", disabled=True), PASSWORD)
    authority = TokenAuthority.load_or_create(
        tmp_path_factory.mktemp("keys"), issuer="t", audience="t"
    )
    return Identities(users, authority)


def mint(identities, scope, **claims):
    return identities._authority.mint(subject="robot", scope=scope, lifetime_s=60, **claims)


def applicant(**changes):
    known = {"address": "10.1.0.7", "calling_ae": "CT1", "called_ae": "HILUM"}
    return Applicant(**{**known, **changes})


def code(decision):
    assert isinstance(decision, Rejected)
    return decision.result, decision.source, decision.reason


# --- title, address, rights ----------------------------------------------------------------------


def test_a_known_peer_gets_its_rights_and_is_the_caller(admission_for):
    decision = admission_for(CT).decide(applicant(calling_ae=" CT1 "))

    assert isinstance(decision, Admitted)
    assert (decision.peer, decision.rights) == (CT, STORE)
    assert (decision.caller.subject, decision.caller.kind) == ("CT1", "modality")
    assert decision.caller.address == "10.1.0.7"


@pytest.mark.parametrize(
    ("changes", "rejection"),
    [
        ({"calling_ae": "CT2"}, (1, 1, 3)),
        ({"calling_ae": "ct1"}, (1, 1, 3)),
        ({"address": "10.2.0.7"}, (1, 1, 3)),
        ({"address": "not an address"}, (1, 1, 3)),
        ({"called_ae": "OTHER"}, (1, 1, 7)),
    ],
)
def test_who_differs_in_anything_is_rejected_with_the_code_of_the_standard(
    admission_for, changes, rejection
):
    admission = admission_for(CT, check_called_ae=True)

    assert code(admission.decide(applicant(**changes))) == rejection


@pytest.mark.parametrize(
    ("config", "address", "rights"),
    [
        ({}, "127.0.0.1", ALL_RIGHTS),
        ({}, "::1", ALL_RIGHTS),
        ({}, "::ffff:127.0.0.1", ALL_RIGHTS),
        ({}, "10.9.9.9", None),
        ({"unknown_callers": STORE}, "10.9.9.9", STORE),
        ({"unknown_callers": frozenset()}, "127.0.0.1", None),
    ],
)
def test_callers_outside_the_table_get_what_the_setting_gives(
    admission_for, config, address, rights
):
    admission = admission_for(CT, **config)

    decision = admission.decide(applicant(calling_ae="STRANGER", address=address))

    assert admission.allows_address(address) == (rights is not None)
    if rights is None:
        assert code(decision) == (1, 1, 3)
    else:
        assert (decision.peer, decision.rights) == (None, rights)


def test_a_stranger_cannot_take_a_title_of_the_table(admission_for):
    admission = admission_for(CT, unknown_callers=ALL_RIGHTS)

    assert code(admission.decide(applicant(address="10.2.0.7"))) == (1, 1, 3)


def test_two_machines_may_share_a_title_and_are_told_apart_by_address(admission_for):
    other = replace(CT, name="ct-b", addresses=("10.2.0.0/16",), rights=LOOK)
    admission = admission_for(CT, other)

    assert admission.decide(applicant()).peer == CT
    assert admission.decide(applicant(address="10.2.0.1")).peer == other


def test_addresses_outside_every_network_are_turned_away_before_they_are_read(admission_for):
    admission = admission_for(CT)

    assert admission.allows_address("10.1.255.255")
    assert not admission.allows_address("10.2.0.1")


@pytest.mark.parametrize(
    ("peer", "changes", "admitted"),
    [
        ({"tls": True}, {}, False),
        ({"tls": True}, {"secure": True}, True),
        ({"tls_subject": "ct1.example"}, {"secure": True}, False),
        ({"tls_subject": "ct1.example"}, {"tls_subject": "CN=x, DNS=ct1.example"}, False),
        (
            {"tls_subject": "ct1.example"},
            {"secure": True, "tls_subject": "CN=x, DNS=ct1.example"},
            True,
        ),
        (
            {"tls_subject": "CN=ct1.example"},
            {"secure": True, "tls_subject": "CN=x, DNS=ct1.example"},
            False,
        ),
        ({"tls_subject": "ct1"}, {"secure": True, "tls_subject": "CN=ct1.example"}, False),
    ],
)
def test_a_peer_with_a_certificate_may_only_come_with_it(admission_for, peer, changes, admitted):
    decision = admission_for(replace(CT, **peer)).decide(applicant(**changes))

    assert isinstance(decision, Admitted) == admitted
    if not admitted:
        assert code(decision) == (1, 1, 3)


# --- users (PS3.7 D.3.3.7) -----------------------------------------------------------------------


def asking(kind, primary, secondary=b"", response=True):
    return applicant(identity=UserIdentity(kind, primary, secondary, response))


def test_username_and_passcode_make_the_user_the_caller(admission_for, identities):
    admission = admission_for(replace(CT, rights=ALL_RIGHTS), identities=identities)

    decision = admission.decide(asking(PASSCODE, b"anna", PASSWORD.encode()))

    assert (decision.caller.subject, decision.caller.kind) == ("anna", "user")
    assert decision.caller.client == "CT1"
    assert decision.identity_response == b""
    assert decision.rights == ALL_RIGHTS


def test_nobody_gets_more_than_the_machine_and_the_user_both_have(admission_for, identities):
    admission = admission_for(CT, identities=identities)

    assert admission.decide(asking(USERNAME, b"anna")).rights == STORE
    everything = admission_for(replace(CT, rights=LOOK), identities=identities)
    assert everything.decide(asking(USERNAME, b"tom")).rights == LOOK


@pytest.mark.parametrize(
    ("scope", "rights"),
    [
        ("system/ImagingStudy.c", {"store"}),
        ("system/ImagingStudy.s", {"query"}),
        ("system/ImagingStudy.r", {"retrieve"}),
        ("system/ServiceRequest.s", {"worklist"}),
        ("system/*.rs", {"query", "retrieve", "worklist"}),
        ("system/Patient.r", set()),
    ],
)
def test_a_token_opens_what_its_scopes_open(admission_for, identities, scope, rights):
    admission = admission_for(replace(CT, rights=ALL_RIGHTS), identities=identities)
    token = mint(identities, scope, studies=["1.2.3"])

    decision = admission.decide(asking(JWT, token.encode(), response=False))

    assert decision.rights == rights
    assert decision.identity_response is None
    assert decision.caller.studies == {"1.2.3"}


def test_who_is_held_to_one_patient_or_filter_gets_nothing(admission_for, identities):
    admission = admission_for(replace(CT, rights=ALL_RIGHTS), identities=identities)
    narrow = mint(identities, "patient/*.rs", context={"patient": "1"}).encode()
    granular = mint(identities, "user/ServiceRequest.rs?category=a").encode()

    asked = asking(JWT, narrow), asking(JWT, granular), asking(PASSCODE, b"pat", PASSWORD.encode())

    assert [admission.decide(one).rights for one in asked] == [set()] * 3


@pytest.mark.parametrize(
    ("kind", "primary", "secondary"),
    [
        (USERNAME, b"nobody", b""),
        (USERNAME, b"gone", b""),
        (PASSCODE, b"anna", b"wrong password 1"),
        (PASSCODE, b"gone", PASSWORD.encode()),
        (PASSCODE, b"anna", b""),
        (PASSCODE, b"\xff", b"\xff"),
        (PASSCODE, b"a\0b", b"x"),
        (KERBEROS, b"ticket", b""),
        (SAML, b"<assertion/>", b""),
        (JWT, b"not.a.token", b""),
        (JWT, b"\xff\xfe", b""),
        (6, b"x", b""),
        (USERNAME, b"x" * 20_000, b""),
    ],
)
def test_an_identity_that_is_not_ours_is_rejected_without_a_reason(
    admission_for, identities, kind, primary, secondary
):
    admission = admission_for(CT, identities=identities)

    decision = admission.decide(asking(kind, primary, secondary))

    assert code(decision) == (1, 1, 1)
    assert decision.why
    assert PASSWORD not in decision.why and "wrong password 1" not in decision.why


def test_where_identity_is_required_a_name_alone_is_not_enough(admission_for, identities):
    admission = admission_for(CT, identities=identities, require_identity=True)

    assert code(admission.decide(applicant())) == (1, 1, 1)
    assert code(admission.decide(asking(USERNAME, b"anna"))) == (1, 1, 1)
    accepted = admission.decide(asking(PASSCODE, b"anna", PASSWORD.encode()))
    assert isinstance(accepted, Admitted)


def test_without_users_an_identity_is_ignored_as_the_standard_says(admission_for):
    decision = admission_for(CT).decide(asking(USERNAME, b"anna"))

    assert (decision.rights, decision.identity_response) == (STORE, None)


def test_while_users_cannot_be_read_the_answer_is_to_try_again(admission_for, peers_dsn):
    class Away(Users):
        """The users of a database that is down."""

        def __init__(self):
            self._dsn = "postgresql://127.0.0.1:1/none"

    admission = admission_for(CT, identities=Identities(Away(), None))

    assert code(admission.decide(asking(PASSCODE, b"anna", b"x"))) == (2, 3, 1)


# --- over the wire -------------------------------------------------------------------------------


def identity(kind, primary, secondary=None):
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.positive_response_requested = True
    item.primary_field = primary
    if secondary is not None:
        item.secondary_field = secondary
    return item


def associate(door, title="CT1", ext_neg=None, called="HILUM"):
    contexts = [
        build_context(VERIFICATION),
        build_context(MRImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
    ]
    return AE(title).associate(
        "127.0.0.1", door.port, contexts=contexts, ae_title=called, ext_neg=ext_neg or []
    )


def rejection(association):
    primitive = association.acceptor.primitive
    return primitive.result, primitive.result_source, primitive.diagnostic


LOCAL = replace(CT, addresses=("127.0.0.1",), rights=ALL_RIGHTS)


@pytest.mark.parametrize(
    ("peer", "title", "called", "expected"),
    [
        (LOCAL, "CT1", "HILUM", None),
        (LOCAL, "WHO", "HILUM", (1, 1, 3)),
        (replace(LOCAL, addresses=("127.0.0.2",)), "CT1", "HILUM", (1, 1, 3)),
        (LOCAL, "CT1", "OTHER", (1, 1, 7)),
        (replace(LOCAL, tls=True), "CT1", "HILUM", (1, 1, 3)),
    ],
)
def test_the_rejection_arrives_as_pdu_and_in_the_audit(
    admission_for, open_door, peer, title, called, expected
):
    # Somebody may come from here: else the connection is closed before anything is read.
    anybody = Peer("any", "ANYBODY", "127.0.0.1", 104)
    admission = admission_for(peer, anybody, unknown_callers=frozenset(), check_called_ae=True)
    door = open_door(admission)

    association = associate(door, title, called=called)

    if expected is None:
        assert association.is_established
        association.release()
        return
    assert association.is_rejected
    assert rejection(association) == expected
    assert wait_until(lambda: title in door.audit() and "rejected" in door.audit())


def test_a_peer_without_the_right_to_store_has_its_context_rejected(admission_for, open_door):
    door = open_door(admission_for(replace(LOCAL, rights=LOOK)))

    association = associate(door)

    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    refused = {context.abstract_syntax: context.result for context in association.rejected_contexts}
    association.release()
    assert accepted == {VERIFICATION}
    assert refused == {MRImageStorage: 1}


def test_a_passcode_opens_the_door_and_is_confirmed_to_who_asks(
    admission_for, open_door, identities
):
    door = open_door(admission_for(LOCAL, identities=identities, require_identity=True))

    good = associate(door, ext_neg=[identity(2, b"anna", PASSWORD.encode())])
    wrong = associate(door, ext_neg=[identity(2, b"anna", b"wrong password 1")])
    without = associate(door)
    token = mint(identities, "system/ImagingStudy.c").encode()
    by_token = associate(door, ext_neg=[identity(5, token)])

    assert good.is_established
    assert good.acceptor.user_identity.server_response == b""
    assert good.send_c_echo().Status == 0
    good.release()
    assert by_token.is_established
    by_token.release()
    assert (rejection(wrong), rejection(without)) == ((1, 1, 1), (1, 1, 1))
    assert wait_until(lambda: "passcode" in door.audit())
    assert PASSWORD not in door.audit()


def wait_until(holds, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False
