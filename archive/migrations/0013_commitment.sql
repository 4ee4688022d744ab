-- Storage commitment over the web (PS3.18 chapter 13): what was asked, and its result, which may
-- be asked for long after the process that found it has ended.
create table archive.commitment (
    transaction_uid text primary key,
    subject text not null,              -- who asked: nobody else gets the result
    referenced jsonb not null,          -- [[SOP class, SOP instance], ...]
    hidden jsonb not null,              -- Study Instance UIDs that are none of the caller's business
    result jsonb,                       -- DICOM JSON; null: not verified yet
    asked_at timestamptz not null default now()
);
create index commitment_age on archive.commitment (asked_at);
