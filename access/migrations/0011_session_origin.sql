-- When the person had proved who they are: at another identity provider that may be long before the
-- session here, and null where it does not say. Its id_token tells it whom to sign out.
alter table access.session add column signed_in_at timestamptz;
alter table access.session add column id_token text;
update access.session set signed_in_at = created_at;
