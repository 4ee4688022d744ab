package org.hilum.hapi;

import ca.uhn.fhir.rest.api.RestOperationTypeEnum;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import java.util.regex.Pattern;
import org.hl7.fhir.r4.model.Bundle;

/** Says whether a grant speaks of what a request asks for, before any resource is looked at. */
final class Operations {

  private static final Pattern TYPE = Pattern.compile("([A-Z][A-Za-z]+)(?:[/?].*)?");
  private static final String ANY = "cruds";

  private Operations() {}

  /** Whether the request may be tried; each resource that it touches is looked at besides. */
  static boolean mayTry(Grant grant, RequestDetails request) {
    var type = request.getResourceName();
    return switch (request.getRestOperationType()) {
      case METADATA -> true;
      case READ, VREAD, HISTORY_INSTANCE -> grant.names(type, "r");
      case SEARCH_TYPE, HISTORY_TYPE -> grant.names(type, "s");
      case CREATE -> grant.names(type, "c");
      case UPDATE, PATCH -> grant.names(type, "u");
      case DELETE -> grant.names(type, "d");
      case SEARCH_SYSTEM, HISTORY_SYSTEM -> grant.coversEverything("s");
      case GET_PAGE -> grant.rules().stream().anyMatch(rule -> rule.letters().matches(".*[rs].*"));
      case TRANSACTION -> mayTryAll(grant, request);
      case VALIDATE, EXTENDED_OPERATION_SERVER, EXTENDED_OPERATION_TYPE, EXTENDED_OPERATION_INSTANCE ->
          grant.operations().contains(request.getOperation())
              && (!asksAboutStored(request) || grant.coversAll(type, "r"));
      default -> false;
    };
  }

  /**
   * The letters of which one must cover a resource that an answer shows.
   *
   * <p>What a write answers with is what was written, or what its condition found.
   */
  static String shownBy(RestOperationTypeEnum operation) {
    return switch (operation) {
      case READ, VREAD, HISTORY_INSTANCE -> "r";
      case CREATE, UPDATE, PATCH, DELETE, TRANSACTION, VALIDATE -> ANY;
      default -> "rs";
    };
  }

  /** $validate with an id: the store tells whether it is there and what refers to it, whoever asks. */
  private static boolean asksAboutStored(RequestDetails request) {
    return "$validate".equals(request.getOperation()) && request.getId() != null;
  }

  private static boolean mayTryAll(Grant grant, RequestDetails request) {
    return request.getResource() instanceof Bundle bundle
        && bundle.getEntry().stream().allMatch(entry -> mayTry(grant, entry.getRequest()));
  }

  private static boolean mayTry(Grant grant, Bundle.BundleEntryRequestComponent entry) {
    var url = TYPE.matcher(entry.getUrl() == null ? "" : entry.getUrl());
    if (!url.matches() || entry.getMethod() == null) {
      return false;
    }
    var rest = entry.getUrl().substring(url.group(1).length());
    var operation = rest.indexOf('$');
    if (operation >= 0 && !rest.substring(0, operation).contains("?")) {
      return grant.operations().contains(rest.substring(operation).split("[?/]")[0]);
    }
    var letter =
        switch (entry.getMethod()) {
          case GET, HEAD -> rest.startsWith("/") && !rest.equals("/_history") ? "r" : "s";
          case POST -> "c";
          case PUT, PATCH -> "u";
          case DELETE -> "d";
          default -> "";
        };
    return grant.names(url.group(1), letter);
  }
}
