"""Who may reach which study: the FHIR store's answer, for the doors that serve pixels."""

from archive import Archive
from fhir_gateway.config import GatewayConfig
from fhir_gateway.patient import IssuerRules
from fhir_gateway.schema import make_pool
from fhir_gateway.study_access.changes import NotesChanges, note_change
from fhir_gateway.study_access.decisions import StudyAccess
from fhir_gateway.study_access.questions import Questions

__all__ = ["NotesChanges", "StudyAccess", "make", "note_change"]

PATIENCE_S = 5.0


def make(config: GatewayConfig, archive: Archive) -> StudyAccess:
    """Decisions by the FHIR store and the tables of this configuration; not opened yet."""
    questions = Questions(config.records_url, config.grants, patience_s=PATIENCE_S)
    issuers = IssuerRules(config.default_issuer, config.issuer_of_ae)
    return StudyAccess(archive, make_pool(config.dsn), questions, issuers)
