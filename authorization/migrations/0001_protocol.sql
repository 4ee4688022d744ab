-- Registered apps, the authorizations that people gave them, and what was issued on these.
-- Codes, refresh tokens and browser bindings are kept as SHA-256 only: who reads the tables
-- cannot use them.

create table authorization_server.client (
    client_id text primary key check (client_id ~ '^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$'),
    name text not null check (length(name) between 1 and 200),
    kind text not null check (kind in ('public', 'symmetric', 'asymmetric')),
    secret text check (secret <> ''),
    jwks jsonb,
    jwks_uri text,
    redirect_uris text[] not null default '{}',
    launch_url text,
    scopes text not null,
    grant_types text[] not null,
    backend boolean not null default false,
    trusted boolean not null default false,
    origins text[] not null default '{}',
    disabled boolean not null default false,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now()
);

-- An app's question, while a person signs in, chooses and consents.
create table authorization_server.request (
    request_id text primary key,
    client_id text not null references authorization_server.client on delete cascade,
    redirect_uri text not null,
    scope text not null,
    state bytea,  -- as it came: not every byte is text
    nonce text,
    launch text,
    prompt text,
    code_challenge text not null,
    browser_sha256 bytea not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    done_at timestamptz
);
create index on authorization_server.request (expires_at);

-- The answer yes. Everything that is issued on it carries its sid and ends with it.
create table authorization_server.approval (
    sid text primary key,
    client_id text not null references authorization_server.client on delete cascade,
    username text not null,
    fhir_user text,
    scope text not null,
    context jsonb not null,
    nonce text,
    redirect_uri text not null,
    code_challenge text not null,
    code_sha256 bytea not null unique,
    code_expires_at timestamptz not null,
    code_used_at timestamptz,
    session_sha256 bytea,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
create index on authorization_server.approval (client_id);
create index on authorization_server.approval (username);
create index on authorization_server.approval (session_sha256);

create table authorization_server.refresh (
    token_sha256 bytea primary key,
    sid text not null references authorization_server.approval on delete cascade,
    issued_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index on authorization_server.refresh (sid);

-- Names of client assertions that were accepted: none counts twice (RFC 7523 section 3).
create table authorization_server.assertion (
    client_id text not null,
    jti_sha256 bytea not null,
    expires_at timestamptz not null,
    primary key (client_id, jti_sha256)
);
create index on authorization_server.assertion (expires_at);
