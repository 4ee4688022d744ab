package org.hilum.hapi;

import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.jpa.model.util.JpaConstants;
import ca.uhn.fhir.rest.api.RestOperationTypeEnum;
import ca.uhn.fhir.rest.api.server.IPreResourceShowDetails;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.server.exceptions.ForbiddenOperationException;
import ca.uhn.fhir.rest.server.interceptor.auth.AuthorizationFlagsEnum;
import ca.uhn.fhir.rest.server.interceptor.auth.AuthorizationInterceptor;
import ca.uhn.fhir.rest.server.interceptor.auth.IAuthRule;
import ca.uhn.fhir.rest.server.interceptor.auth.IRuleApplier;
import ca.uhn.fhir.rest.server.interceptor.auth.PolicyEnum;
import java.util.List;
import java.util.Set;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.instance.model.api.IIdType;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.OperationOutcome;

/**
 * HAPI's authorization with the rules of the request's grant: what no rule covers is refused.
 *
 * <p>HAPI's own rule builder knows neither read apart from search nor update apart from create, so the
 * one rule here is ours. Before an answer gets here, {@link GrantedView} has taken out of it what is
 * not covered; what is still in it is looked at once more.
 */
class GrantRules extends AuthorizationInterceptor {

  private final Coverage coverage;

  GrantRules(Coverage coverage) {
    super(PolicyEnum.DENY);
    this.coverage = coverage;
  }

  @Override
  public List<IAuthRule> buildRuleList(RequestDetails request) {
    return List.of(new GrantRule(GrantedView.grantOf(request)));
  }

  /** Nothing is left to find: {@link GrantedView} has looked at the same resources at this point. */
  @Override
  public void hookPreShow(RequestDetails request, IPreResourceShowDetails shown, Pointcut pointcut) {}

  @Override
  public void hookOutgoingResponse(RequestDetails request, IBaseResource response, Pointcut pointcut) {
    if (!GrantedView.grantOf(request).coversEverything("rs")) {
      super.hookOutgoingResponse(request, response, pointcut);
    }
  }

  @Override
  protected void handleDeny(RequestDetails request, Verdict decision) {
    throw new ForbiddenOperationException("The grant does not cover this");
  }

  private final class GrantRule implements IAuthRule {

    private final Grant grant;

    GrantRule(Grant grant) {
      this.grant = grant;
    }

    @Override
    public Verdict applyRule(
        RestOperationTypeEnum operation,
        RequestDetails request,
        IBaseResource input,
        IIdType inputId,
        IBaseResource output,
        IRuleApplier applier,
        Set<AuthorizationFlagsEnum> flags,
        Pointcut pointcut) {
      var covered = output != null ? mayLeave(operation, request, output) : mayHappen(request, input, pointcut);
      return covered ? new Verdict(PolicyEnum.ALLOW, this) : null;
    }

    private boolean mayLeave(RestOperationTypeEnum operation, RequestDetails request, IBaseResource output) {
      if (output instanceof Bundle bundle && GrantedView.FOUND.contains(bundle.getType())) {
        // The answer to one entry of a batch: what is in it counts.
        return bundle.getEntry().stream()
            .allMatch(entry -> entry.getResource() == null || mayLeave(operation, request, entry.getResource()));
      }
      var contained = output.getIdElement().getValue() != null && output.getIdElement().getValue().startsWith("#");
      return contained
          || output instanceof OperationOutcome
          || GrantedView.wasShown(request, output)
          || coverage.covers(grant, output, Operations.shownBy(operation));
    }

    private boolean mayHappen(RequestDetails request, IBaseResource input, Pointcut pointcut) {
      return switch (pointcut) {
        case SERVER_INCOMING_REQUEST_PRE_HANDLED -> Operations.mayTry(grant, request);
        // An update that finds nothing creates; SMART counts that as an update.
        case STORAGE_PRESTORAGE_RESOURCE_CREATED -> mayBeStored(input, isUpdate(request, input) ? "u" : "c");
        case STORAGE_PRESTORAGE_RESOURCE_UPDATED -> mayBeStored(input, "u");
        case STORAGE_PRESTORAGE_RESOURCE_DELETED -> coverage.covers(grant, input, "d");
        case STORAGE_INITIATE_BULK_EXPORT -> grant.operations().contains("$export");
        default -> false;
      };
    }

    private boolean mayBeStored(IBaseResource input, String letter) {
      return coverage.covers(grant, input, letter) && !coverage.reachesFurther(grant, input, letter);
    }

    private static boolean isUpdate(RequestDetails request, IBaseResource input) {
      return switch (request.getRestOperationType()) {
        case UPDATE, PATCH -> true;
        // In a Bundle a PUT is told from a POST by who chose the id.
        case TRANSACTION -> input.getUserData(JpaConstants.RESOURCE_ID_SERVER_ASSIGNED) == null;
        default -> false;
      };
    }

    @Override
    public String getName() {
      return "grant";
    }
  }
}
