package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.jpa.searchparam.MatchUrlService;
import ca.uhn.fhir.jpa.searchparam.SearchParameterMap;
import ca.uhn.fhir.jpa.searchparam.matcher.SearchParamMatcher;
import ca.uhn.fhir.rest.api.server.SystemRequestDetails;
import ca.uhn.fhir.rest.param.ReferenceParam;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import ca.uhn.fhir.util.FhirTerser;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.hl7.fhir.instance.model.api.IBaseReference;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.instance.model.api.IIdType;
import org.hl7.fhir.r4.model.IdType;
import org.springframework.stereotype.Component;

/**
 * Says whether a grant covers a resource. What cannot be decided is not covered.
 *
 * <p>It holds no policy: which rules a caller has is decided before, in Python.
 */
@Component
class Coverage {

  private static final String PATIENT = "Patient";
  private static final List<String> ABOUT = List.of("subject", "patient", "beneficiary");
  private static final int LOOKED_AT = 100; // referring resources that are examined
  private static final int KEPT = 1000;

  private final FhirTerser terser;
  private final FhirContext context;
  private final SearchParamMatcher matcher;
  private final MatchUrlService queries;
  private final ISearchParamRegistry parameters;
  private final DaoRegistry daos;
  private final boolean blind = SeededFault.is(SeededFault.COMPARTMENT);
  private final Map<String, SearchParameterMap> parsed = new ConcurrentHashMap<>();

  Coverage(
      FhirContext context,
      SearchParamMatcher matcher,
      MatchUrlService queries,
      ISearchParamRegistry parameters,
      DaoRegistry daos) {
    this.context = context;
    this.terser = context.newTerser();
    this.matcher = matcher;
    this.queries = queries;
    this.parameters = parameters;
    this.daos = daos;
  }

  /** Whether some rule covers the resource for one of these letters. */
  boolean covers(Grant grant, IBaseResource resource, String anyOf) {
    var type = resource.fhirType();
    for (var rule : grant.rules()) {
      if (rule.names(type, anyOf) && matches(rule, resource) && referenced(grant, rule, resource)) {
        return true;
      }
    }
    return false;
  }

  /** Whether a rule that looks at the resource alone covers it. */
  boolean coversByItself(Grant grant, IBaseResource resource, String anyOf) {
    var type = resource.fhirType();
    return grant.rules().stream()
        .anyMatch(rule -> !rule.byReference() && rule.names(type, anyOf) && matches(rule, resource));
  }

  /** Versionless `Type/id` of all that a resource refers to. */
  Set<String> references(IBaseResource resource) {
    return terser.getAllResourceReferences(resource).stream()
        .map(found -> plain(found.getResourceReference().getReferenceElement()))
        .collect(Collectors.toSet());
  }

  static String plain(IIdType id) {
    return id.getResourceType() + "/" + id.getIdPart();
  }

  private boolean matches(Rule rule, IBaseResource resource) {
    return (rule.patient() == null || blind || inCompartment(resource, rule.patient()))
        && (rule.filter() == null || satisfies(resource, rule.filter()));
  }

  private boolean inCompartment(IBaseResource resource, String patient) {
    if (PATIENT.equals(resource.fhirType())) {
      // Patient.link would put another Patient into the compartment: a link may be a mistake.
      return patient.equals(resource.getIdElement().getIdPart());
    }
    return isAboutNobodyElse(resource, patient)
        && terser.isSourceInCompartmentForTarget(PATIENT, resource, new IdType(PATIENT, patient), Set.of());
  }

  /** By R4 an Observation is in its performer's compartment as well; whose record it is says its subject. */
  private boolean isAboutNobodyElse(IBaseResource resource, String patient) {
    var definition = context.getResourceDefinition(resource);
    return ABOUT.stream()
        .filter(element -> definition.getChildByName(element) != null)
        .map(element -> terser.getValues(resource, resource.fhirType() + "." + element, IBaseReference.class))
        .flatMap(List::stream)
        .filter(about -> !about.isEmpty())
        .allMatch(about -> (PATIENT + "/" + patient).equals(plain(about.getReferenceElement())));
  }

  /** Whether storing the resource would tell or open more than the grant covers, by what it refers to. */
  boolean reachesFurther(Grant grant, IBaseResource resource, String letter) {
    var limited = !grant.coversAll(resource.fhirType(), letter);
    return terser.getAllResourceReferences(resource).stream()
        .map(found -> found.getResourceReference().getReferenceElement())
        .anyMatch(id -> searchesFurther(grant, id) || (limited && opens(grant, id)));
  }

  /** A reference such as `Patient?identifier=x`: the store looks for it. */
  private static boolean searchesFurther(Grant grant, IIdType id) {
    var query = id.getValue() == null ? -1 : id.getValue().indexOf('?');
    return query >= 0 && !grant.coversAll(id.getValue().substring(0, query), "s");
  }

  /** A reference by which its writer could from then on see what it could not see before. */
  private boolean opens(Grant grant, IIdType id) {
    return id.hasResourceType()
        && grant.rules().stream()
            .anyMatch(rule -> !rule.referredBy().isEmpty() && rule.names(id.getResourceType(), "rs"))
        && !stored(id, found -> covers(grant, found, "rs"));
  }

  private boolean satisfies(IBaseResource resource, String filter) {
    var result = matcher.match(query(resource.fhirType(), filter), resource);
    return result.supported() && result.matched();
  }

  private SearchParameterMap query(String type, String filter) {
    if (parsed.size() > KEPT) {
      parsed.clear();
    }
    return parsed.computeIfAbsent(
        type + "?" + filter, url -> queries.translateMatchUrl(url, context.getResourceDefinition(type)));
  }

  private boolean referenced(Grant grant, Rule rule, IBaseResource resource) {
    return !rule.byReference()
        || rule.refersBy().stream().anyMatch(element -> refersToCovered(grant, rule, resource, element))
        || rule.referredBy().stream().anyMatch(parameter -> coveredRefersTo(grant, resource, parameter));
  }

  /** Who may see one of the things that a resource is about may see it; who writes it must see them all. */
  private boolean refersToCovered(Grant grant, Rule rule, IBaseResource resource, String element) {
    var named = terser.getValues(resource, resource.fhirType() + "." + element, IBaseReference.class);
    Predicate<IBaseReference> covered = reference -> isStoredAndCovered(grant, reference.getReferenceElement());
    return rule.names(resource.fhirType(), "cud")
        ? !named.isEmpty() && named.stream().allMatch(covered)
        : named.stream().anyMatch(covered);
  }

  private boolean isStoredAndCovered(Grant grant, IIdType id) {
    return id.hasResourceType()
        && id.hasIdPart()
        && grant.names(id.getResourceType(), "rs")
        && stored(id, found -> coversByItself(grant, found, "rs"));
  }

  private boolean stored(IIdType id, Predicate<IBaseResource> covered) {
    try {
      var found = daos.getResourceDao(id.getResourceType()).read(id.toVersionless(), new SystemRequestDetails());
      return found != null && covered.test(found);
    } catch (BaseServerResponseException e) {
      return false; // gone, or never there
    }
  }

  private boolean coveredRefersTo(Grant grant, IBaseResource resource, String parameter) {
    if (!resource.getIdElement().hasIdPart()) {
      return false;
    }
    var type = parameter.substring(0, parameter.indexOf(':'));
    var name = parameter.substring(type.length() + 1);
    return grant.rules().stream()
        .filter(rule -> !rule.byReference() && rule.names(type, "rs"))
        .anyMatch(rule -> found(grant, rule, type, name, plain(resource.getIdElement())));
  }

  private boolean found(Grant grant, Rule rule, String type, String name, String target) {
    var search = SearchParameterMap.newSynchronous(name, new ReferenceParam(target));
    search.setLoadSynchronousUpTo(LOOKED_AT);
    var context = ISearchParamRegistry.SearchParamLookupContextEnum.SEARCH;
    if (rule.patient() != null && parameters.hasActiveSearchParam(type, "patient", context)) {
      search.add("patient", new ReferenceParam(PATIENT, null, rule.patient()));
    }
    var bundle = daos.getResourceDao(type).search(search, new SystemRequestDetails());
    return bundle.getAllResources().stream().anyMatch(one -> coversByItself(grant, one, "rs"));
  }
}
