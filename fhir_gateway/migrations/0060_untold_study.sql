-- Studies published since their performed steps (MPPS) were told to the FHIR store: whose the
-- steps are, and for which order, may be known only now.
create table gateway.untold_study (
    study_uid text primary key,
    again bigint not null default 0
);
