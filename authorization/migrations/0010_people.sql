-- What people chose and agreed to, and the launches that an EHR page began.

-- What was chosen so far for an open request; it counts for the user who chose.
create table authorization_server.choice (
    request_id text primary key references authorization_server.request on delete cascade,
    username text not null,
    context jsonb not null,
    chosen jsonb not null default '[]'  -- which pickers were answered, the launch among them
);

-- What a user agreed to: asked is all that was on the page, granted what stayed ticked.
create table authorization_server.consent (
    username text not null,
    client_id text not null references authorization_server.client on delete cascade,
    asked text not null,
    granted text not null,
    decided_at timestamptz not null default now(),
    primary key (username, client_id)
);

-- Kept by hash: who reads the table cannot begin a launch.
create table authorization_server.launch (
    launch_sha256 bytea primary key,
    client_id text not null references authorization_server.client on delete cascade,
    username text not null,
    session_sha256 bytea,  -- of the browser session that began it; null: a backend did
    context jsonb not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index on authorization_server.launch (expires_at);
