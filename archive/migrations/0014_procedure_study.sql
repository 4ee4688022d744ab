-- Performed steps are looked up by their studies.
create index procedure_step_studies on archive.procedure_step using gin (study_uids);
