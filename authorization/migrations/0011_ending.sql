-- A machine's tokens carry this and end with it; it changes whenever all of them are ended.
alter table authorization_server.client
    add column backend_sid text not null default gen_random_uuid()::text;

-- When the person had proved who they are; the answer to the app may come much later.
alter table authorization_server.approval
    add column signed_in_at timestamptz not null default now();
