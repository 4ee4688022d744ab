"""The routing table: every resource of the service, who may, and what answers."""

from __future__ import annotations

from dicomweb import (
    bulkdata,
    changefeed,
    commitment,
    delete,
    frames,
    metadata,
    querytags,
    rendered,
    retrieve,
    search,
    store,
    wado_uri,
    workitems,
)
from dicomweb.door import Rule

STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
FRAMES = INSTANCE + "/frames/{numbers}"

SEARCHES = (
    Rule("GET", "/studies", "s", search.search_studies, "Search for studies", asks=True),
    Rule("GET", "/series", "s", search.search_series, "Search for series", asks=True),
    Rule("GET", "/instances", "s", search.search_instances, "Search for instances", asks=True),
    Rule("GET", STUDY + "/series", "s", search.search_series, "Search for series of a study"),
    Rule("GET", STUDY + "/instances", "s", search.search_instances, "Search in a study"),
    Rule("GET", SERIES + "/instances", "s", search.search_instances, "Search in a series"),
)
RETRIEVALS = (
    Rule("GET", STUDY, "r", retrieve.retrieve_study, "Retrieve a study"),
    Rule("GET", STUDY + "/metadata", "r", metadata.study_metadata, "Metadata of a study"),
    Rule("GET", STUDY + "/rendered", "r", rendered.rendered_study, "Rendered study"),
    Rule("GET", STUDY + "/thumbnail", "r", rendered.thumbnail, "Thumbnail of a study"),
    Rule("GET", SERIES, "r", retrieve.retrieve_series, "Retrieve a series"),
    Rule("GET", SERIES + "/metadata", "r", metadata.series_metadata, "Metadata of a series"),
    Rule("GET", SERIES + "/rendered", "r", rendered.rendered_series, "Rendered series"),
    Rule("GET", SERIES + "/thumbnail", "r", rendered.thumbnail, "Thumbnail of a series"),
    Rule("GET", INSTANCE, "r", retrieve.retrieve_instance, "Retrieve an instance"),
    Rule("GET", INSTANCE + "/metadata", "r", metadata.instance_metadata, "Metadata of an instance"),
    Rule("GET", INSTANCE + "/thumbnail", "r", rendered.thumbnail, "Thumbnail of an instance"),
    Rule("GET", INSTANCE + "/rendered", "r", rendered.rendered_instance, "Rendered instance"),
    Rule("GET", INSTANCE + "/bulkdata/{path:path}", "r", bulkdata.retrieve_bulkdata, "Bulk value"),
    Rule("GET", FRAMES, "r", frames.retrieve_frames, "Retrieve frames"),
    Rule("GET", FRAMES + "/rendered", "r", rendered.rendered_frame, "Rendered frame"),
    Rule("GET", FRAMES + "/thumbnail", "r", rendered.thumbnail, "Thumbnail of a frame"),
)
STORES = (
    Rule("POST", "/studies", "c", store.store, "Store instances", asks=True, other="u"),
    Rule("POST", STUDY, "c", store.store, "Store to one study", asks=True, other="u"),
)
DELETIONS = tuple(
    Rule("DELETE", path, "d", delete.delete, f"Delete {what}")
    for path, what in ((STUDY, "a study"), (SERIES, "a series"), (INSTANCE, "an instance"))
)
COMMITMENT = "/commitment-requests/{transaction}"
OTHERS = (
    Rule("GET", "/wado", "r", wado_uri.wado, "Retrieve by WADO-URI", asks=True),
    Rule("GET", "/changefeed", "s", changefeed.changes, "Changes in order"),
    Rule("GET", "/changefeed/latest", "s", changefeed.latest, "Sequence of the newest change"),
    Rule("POST", COMMITMENT, "c", commitment.request_commitment, "Commit to storage", asks=True),
    Rule("GET", COMMITMENT, "c", commitment.check_result, "Result of commitment", asks=True),
)
# Kept attributes are the searches' configuration: who may change FHIR's own may change these.
TAGS, ADMIN = "/extendedquerytags", "SearchParameter"
QUERY_TAGS = (
    Rule("GET", TAGS, "s", querytags.list_tags, "Extended query tags", ADMIN),
    Rule("POST", TAGS, "c", querytags.add_tags, "Add extended query tags", ADMIN),
    Rule("GET", TAGS + "/{tag}", "r", querytags.read_tag, "One extended query tag", ADMIN),
    Rule("DELETE", TAGS + "/{tag}", "d", querytags.remove_tag, "Remove a query tag", ADMIN),
)
RULES: tuple[Rule, ...] = (
    *SEARCHES,
    *RETRIEVALS,
    *STORES,
    *DELETIONS,
    *OTHERS,
    *QUERY_TAGS,
    *workitems.RULES,
)
