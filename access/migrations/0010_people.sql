-- Who a user is in the FHIR store may be a Patient too; users of another identity provider have
-- no password here and are known by issuer and subject.

alter table access.account rename column practitioner to fhir_user;
alter table access.account add column federated text unique check (federated <> '');
