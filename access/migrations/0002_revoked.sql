-- Tokens that were withdrawn before their time, by their own id or by that of the authorization.

create table access.revoked (
    kind text not null check (kind in ('sid', 'jti')),
    id text not null check (id <> ''),
    until timestamptz not null,
    revoked_at timestamptz not null default now(),
    primary key (kind, id)
);
create index on access.revoked (revoked_at);
