-- A modality or SOP class that few studies have is found without looking at all of them.
create index study_modalities on archive.study using gin (modalities);
create index study_sop_classes on archive.study using gin (sop_classes);
