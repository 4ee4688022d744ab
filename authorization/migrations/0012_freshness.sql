-- How long ago the person may have signed in, in seconds, as the app asks.
alter table authorization_server.request add column max_age integer;

-- Another identity provider does not always say when somebody signed in.
alter table authorization_server.approval alter column signed_in_at drop not null;
