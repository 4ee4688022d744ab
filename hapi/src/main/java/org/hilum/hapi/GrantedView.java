package org.hilum.hapi;

import ca.uhn.fhir.interceptor.api.Hook;
import ca.uhn.fhir.interceptor.api.Interceptor;
import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.rest.api.RestOperationTypeEnum;
import ca.uhn.fhir.rest.api.server.IPreResourceShowDetails;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.api.server.SystemRequestDetails;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.exceptions.ForbiddenOperationException;
import ca.uhn.fhir.rest.server.exceptions.ResourceNotFoundException;
import ca.uhn.fhir.rest.server.interceptor.auth.AuthorizationConstants;
import ca.uhn.fhir.rest.server.servlet.ServletRequestDetails;
import java.util.Collections;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.Set;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Bundle;

/**
 * Takes out of every answer what the request's grant does not cover: matches, includes, $everything,
 * history, and what a conditional write would find.
 *
 * <p>It drops and does not abort: one foreign include must not cost the caller the whole answer, and a
 * resource that is not for them looks like one that is not there.
 */
@Interceptor(order = AuthorizationConstants.ORDER_CONSENT_INTERCEPTOR)
class GrantedView {

  /** Bundles that an answer is made of, as opposed to those that somebody has stored. */
  static final Set<Bundle.BundleType> FOUND =
      EnumSet.of(Bundle.BundleType.SEARCHSET, Bundle.BundleType.HISTORY);
  private static final String SHOWN = GrantedView.class.getName() + ".shown";

  private final Coverage coverage;
  private final DaoRegistry daos;

  GrantedView(Coverage coverage, DaoRegistry daos) {
    this.coverage = coverage;
    this.daos = daos;
  }

  /** The grant of a request; every request that the filter let through has one. */
  static Grant grantOf(RequestDetails request) {
    var grant =
        request instanceof ServletRequestDetails servlet
            ? servlet.getServletRequest().getAttribute(Grant.ATTRIBUTE)
            : null;
    if (grant instanceof Grant found) {
      return found;
    }
    throw new ForbiddenOperationException("A request without a grant");
  }

  /** Whether this very resource was found to be covered when the answer was made. */
  static boolean wasShown(RequestDetails request, IBaseResource resource) {
    return shownOf(request).contains(resource);
  }

  /** An older version is shown only to who may see the present one: a study may have moved. */
  @Hook(Pointcut.SERVER_INCOMING_REQUEST_PRE_HANDLED)
  void lookAtPresentVersion(RequestDetails request) {
    var operation = request.getRestOperationType();
    var old = operation == RestOperationTypeEnum.VREAD || operation == RestOperationTypeEnum.HISTORY_INSTANCE;
    if (old && !grantOf(request).coversAll(request.getResourceName(), "r")) {
      lookAtPresent(request);
    }
  }

  @Hook(Pointcut.STORAGE_PRESHOW_RESOURCES)
  void drop(RequestDetails request, IPreResourceShowDetails found) {
    var grant = grantOf(request);
    var letters = Operations.shownBy(request.getRestOperationType());
    if (grant.coversEverything(letters)) {
      return;
    }
    var shown = shownOf(request);
    var referred = new HashSet<String>();
    for (int i = 0; i < found.size(); i++) {
      var resource = found.getResource(i);
      if (resource != null && coverage.coversByItself(grant, resource, letters)) {
        shown.add(resource);
        referred.addAll(byReference(grant) ? coverage.references(resource) : Set.of());
      }
    }
    for (int i = 0; i < found.size(); i++) {
      var resource = found.getResource(i);
      if (resource == null || shown.contains(resource)) {
        continue;
      }
      if (isReferred(grant, resource, referred) || coverage.covers(grant, resource, letters)) {
        shown.add(resource);
      } else {
        found.setResource(i, null);
      }
    }
  }

  /** A total tells of what is not shown, unless the search was narrowed to what is covered. */
  @Hook(value = Pointcut.SERVER_OUTGOING_RESPONSE)
  void hideTotal(RequestDetails request, IBaseResource response) {
    if (response instanceof Bundle bundle && !mayCount(request)) {
      hideTotal(bundle);
    }
  }

  private static void hideTotal(Bundle bundle) {
    if (FOUND.contains(bundle.getType())) {
      bundle.setTotalElement(null);
    } else if (bundle.getType() == Bundle.BundleType.BATCHRESPONSE
        || bundle.getType() == Bundle.BundleType.TRANSACTIONRESPONSE) {
      for (var entry : bundle.getEntry()) {
        if (entry.getResource() instanceof Bundle inner) {
          hideTotal(inner);
        }
      }
    }
  }

  private static boolean mayCount(RequestDetails request) {
    var grant = grantOf(request);
    var type = request.getResourceName();
    return grant.counts() || (type == null ? grant.coversEverything("rs") : grant.coversAll(type, "rs"));
  }

  private static boolean byReference(Grant grant) {
    return grant.rules().stream().anyMatch(Rule::byReference);
  }

  /** Whether a covered resource of the same answer refers to it, so that it need not be searched. */
  private static boolean isReferred(Grant grant, IBaseResource resource, Set<String> referred) {
    return referred.contains(Coverage.plain(resource.getIdElement()))
        && grant.rules().stream()
            .anyMatch(rule -> !rule.referredBy().isEmpty() && rule.names(resource.fhirType(), "rs"));
  }

  private void lookAtPresent(RequestDetails request) {
    var id = request.getId().toUnqualifiedVersionless().withResourceType(request.getResourceName());
    try {
      var present = daos.getResourceDao(request.getResourceName()).read(id, new SystemRequestDetails());
      if (coverage.covers(grantOf(request), present, "r")) {
        return;
      }
    } catch (BaseServerResponseException e) {
      // Gone or never there: for this caller both are "not found", as a foreign one is.
    }
    throw new ResourceNotFoundException(id);
  }

  @SuppressWarnings("unchecked")
  private static Set<IBaseResource> shownOf(RequestDetails request) {
    return (Set<IBaseResource>)
        request.getUserData()
            .computeIfAbsent(SHOWN, key -> Collections.newSetFromMap(new IdentityHashMap<>()));
  }
}
