-- What a peer may do here, where it may come from, and how we speak with it.

alter table dimse.peer
    add column rights text[] not null default '{store,query,retrieve,worklist}'
        check (rights <@ '{store,query,retrieve,worklist}'::text[]),
    add column addresses text[] not null default '{}',
    add column tls boolean not null default false,
    add column tls_subject text check (tls_subject <> ''),
    add column character_set text check (character_set <> ''),
    add column transfer_syntaxes text[] not null default '{}',
    add column description text not null default '' check (length(description) <= 500);

create index on dimse.peer (ae_title);
