-- People who sign in, their sessions in the browser, and the wrong passwords that slow one down.

create table access.account (
    username text primary key check (username ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
    display_name text not null default '' check (length(display_name) <= 200),
    role text not null check (role <> ''),
    practitioner text check (practitioner <> ''),
    password text not null check (password <> ''),
    disabled boolean not null default false,
    created_at timestamptz not null default now(),
    password_at timestamptz not null default now()
);

-- Kept by name, whether or not there is such a user: an answer must not tell.
create table access.attempt (
    username_sha256 bytea primary key,
    failures integer not null,
    locked_until timestamptz,
    last_at timestamptz not null default now()
);
create index on access.attempt (last_at);

-- Only the hash of a session's token: who reads the table cannot use it.
create table access.session (
    token_sha256 bytea primary key,
    username text not null references access.account on delete cascade,
    csrf text not null,
    created_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);
create index on access.session (username);
