"""Scopes that are granted of those that were asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.roles import ROLES, SCOPES
from access.scopes import Scopes
from access.users import User
from authorization.narrowing import PLAIN, covers, narrow, narrowed_to_user


@pytest.mark.parametrize(
    ("asked", "allowed", "granted"),
    [
        ("patient/*.rs", "patient/*.rs", "patient/*.rs"),
        ("patient/Observation.rs", "patient/*.cruds", "patient/Observation.rs"),
        ("patient/*.cruds", "patient/*.rs", "patient/*.rs"),
        ("patient/*.rs", "patient/Observation.r patient/Patient.rs",
         "patient/Observation.r patient/Patient.rs"),
        ("patient/*.rs", "user/*.rs", ""),
        ("user/*.rs", "patient/*.rs", ""),
        ("user/Patient.cud", "user/*.rs", ""),
        ("user/Patient.cruds", "user/*.rs user/Patient.u", "user/Patient.rus"),
        ("openid launch x", "openid", "openid"),
        ("nonsense patient/Nothing.rs patient/Patient.sr", "patient/*.cruds", ""),
        # Words of v1 stay words of v1.
        ("patient/*.read", "patient/*.rs", "patient/*.read"),
        ("patient/*.*", "patient/*.rs", "patient/*.read"),
        ("patient/*.*", "patient/*.cruds", "patient/*.*"),
        ("patient/Patient.write", "patient/*.cud", "patient/Patient.write"),
        ("patient/Patient.*", "patient/*.crs", "patient/Patient.read patient/Patient.c"),
        ("patient/Patient.rs", "patient/*.read", "patient/Patient.rs"),
        # Granular scopes.
        ("patient/Observation.rs?category=laboratory", "patient/*.rs",
         "patient/Observation.rs?category=laboratory"),
        ("patient/Observation.rs", "patient/Observation.rs?category=laboratory",
         "patient/Observation.rs?category=laboratory"),
        ("patient/Observation.rs?category=laboratory",
         "patient/Observation.rs?category=laboratory,vital-signs",
         "patient/Observation.rs?category=laboratory"),
        ("patient/Observation.rs?category=laboratory", "patient/Observation.rs?status=final",
         "patient/Observation.rs?category=laboratory&status=final"),
        ("patient/Observation.rs", "patient/Observation.rs?category=a patient/Observation.r",
         "patient/Observation.r patient/Observation.s?category=a"),
        ("patient/Observation.rs?category=a patient/Observation.rs?category=b", "patient/*.rs",
         "patient/Observation.rs?category=a patient/Observation.rs?category=b"),
    ],
)  # fmt: skip
def test_what_is_granted_is_asked_and_allowed(asked, allowed, granted):
    assert narrow(asked, allowed) == granted
    assert covers(allowed, granted)
    assert covers(asked, granted)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("user/*.rs", "user/Patient.r", True),
        ("user/Patient.r user/Patient.s", "user/Patient.rs", True),
        ("user/*.rs", "user/Patient.c", False),
        ("user/*.rs", "patient/Patient.r", False),
        ("user/Patient.rs", "user/*.rs", False),
        ("user/Observation.rs?category=a", "user/Observation.rs", False),
        ("user/Observation.rs?category=a", "user/Observation.rs?category=b", False),
        ("user/Observation.rs?category=a,b", "user/Observation.rs?category=a", True),
        ("user/Observation.rs?category=a", "user/Observation.rs?category=a,b", False),
        ("user/Observation.rs", "user/Observation.rs?category=a", True),
        ("openid", "openid", True),
        ("openid", "offline_access", False),
        ("openid user/*.rs", "nonsense", False),
        ("", "", True),
    ],
)
def test_covers_means_every_part_lies_within(outer, inner, expected):
    assert covers(outer, inner) is expected


@pytest.mark.parametrize("role", ROLES)
def test_a_user_grants_no_more_than_the_role_has_and_no_system_scope(role):
    user = User("anna", "", role, "Patient/1" if role == "patient" else None)

    granted = narrowed_to_user("openid user/*.cruds patient/*.cruds system/*.cruds", user)

    as_user = " ".join(one.replace("patient/", "user/", 1) for one in granted.split())
    assert covers(f"{SCOPES[role]} openid", as_user)
    assert "system/" not in granted
    assert granted.startswith("openid ")


def test_a_v1_request_of_a_radiologist_comes_back_in_v1_as_far_as_it_goes():
    user = User("anna", "", "radiologist")

    granted = narrowed_to_user("user/ImagingStudy.* patient/*.read", user)

    assert granted.split() == ["user/ImagingStudy.read", "user/ImagingStudy.cu", "patient/*.read"]


TYPES = ("*", "Patient", "Observation", "ImagingStudy")
LETTERS = st.sets(st.sampled_from("cruds"), min_size=1).map(
    lambda found: "".join(one for one in "cruds" if one in found)
)
RESOURCE = st.builds(
    lambda context, kind, letters, query: (
        f"{context}/{kind}.{letters}{query if kind == 'Observation' else ''}"
    ),
    st.sampled_from(("patient", "user", "system")),
    st.sampled_from(TYPES),
    st.one_of(LETTERS, st.sampled_from(("read", "write", "*"))),
    st.sampled_from(("", "?category=laboratory", "?category=a,b", "?status=final")),
)
TEXTS = st.lists(st.one_of(RESOURCE, st.sampled_from(("openid", "launch"))), max_size=5).map(
    " ".join
)


@given(TEXTS, TEXTS)
def test_whatever_is_asked_what_is_granted_lies_within_both(asked, allowed):
    granted = narrow(asked, allowed)

    assert covers(allowed, granted)
    assert all(one in PLAIN or Scopes.parse(one).grants for one in granted.split())
    assert narrow(granted, allowed).split() == granted.split()
    for kind in TYPES[1:]:
        for letter in "cruds":
            one, other, both = (
                {grant.context for grant in Scopes.parse(text).rules_for(kind, letter)}
                for text in (asked, allowed, granted)
            )
            assert both <= one & other
