-- Storage commitment (PS3.4 annex J), both roles, and notifications of availability (annex R).

-- What peers ask us to commit to. A row is worked on by whoever has moved `due_at` forward last;
-- one whose process died becomes due again.
create table dimse.commitment (
    id bigint generated always as identity primary key,
    transaction_uid text not null check (transaction_uid <> ''),
    calling_ae text not null,
    address text not null,
    peer text,                          -- its name in the peer table, when it asked
    referenced jsonb not null,          -- [[SOP class, SOP instance], ...]
    failures jsonb,                     -- [[SOP class, SOP instance, reason], ...]; null: not verified
    state text not null default 'open' check (state in ('open', 'reported', 'given up')),
    attempts integer not null default 0,
    due_at timestamptz not null,
    note text not null default '',
    received_at timestamptz not null default now(),
    ended_at timestamptz,
    unique (calling_ae, transaction_uid)
);

create index commitment_due on dimse.commitment (due_at) where state = 'open';

-- What we ask peers to commit to.
create table dimse.commitment_request (
    transaction_uid text primary key,
    peer text not null,
    ae_title text not null,
    referenced jsonb not null,
    state text not null default 'asked' check (state in ('asked', 'answered', 'refused')),
    committed jsonb not null default '[]',   -- [SOP instance, ...]
    failures jsonb not null default '[]',    -- [[SOP instance, reason], ...]
    asked_at timestamptz not null default now(),
    answered_at timestamptz
);

-- Which change of the archive has been looked at for notifications, and what is still to be sent.
create table dimse.availability_cursor (
    one boolean primary key default true check (one),
    sequence bigint not null
);

create table dimse.availability (
    peer text not null,
    study_uid text not null,
    due_at timestamptz not null,
    attempts integer not null default 0,
    note text not null default '',
    primary key (peer, study_uid)
);
