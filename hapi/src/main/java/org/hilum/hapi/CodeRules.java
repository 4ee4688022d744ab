package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.ConceptValidationOptions;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.context.support.ValidationSupportContext;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import org.hl7.fhir.r4.model.ValueSet;

/**
 * Codes of LOINC and SNOMED CT, which cannot be shipped whole.
 *
 * <p>A code that Hilum writes is known by the fragments in `profiles/valueset`. Any other is an
 * error when its check digit is wrong, and a warning when it may exist: nobody here knows. With
 * `onlyWritten` every code outside the fragments is an error: that is for the resources that Hilum
 * itself writes.
 */
final class CodeRules implements IValidationSupport {

  private static final Map<String, Predicate<String>> SYSTEMS =
      Map.of(
          "http://loinc.org", CheckDigits::mayBeLoinc,
          "http://snomed.info/sct", CheckDigits::mayBeSnomed);

  private final FhirContext context;
  private final boolean onlyWritten;
  private final Map<String, Map<String, String>> written = new HashMap<>();

  /**
   * @param fragments the value sets that list what Hilum writes
   */
  CodeRules(FhirContext context, List<ValueSet> fragments, boolean onlyWritten) {
    this.context = context;
    this.onlyWritten = onlyWritten;
    for (var fragment : fragments) {
      for (var include : fragment.getCompose().getInclude()) {
        var codes = written.computeIfAbsent(include.getSystem(), system -> new HashMap<>());
        include.getConcept().forEach(one -> codes.put(one.getCode(), one.getDisplay()));
      }
    }
  }

  @Override
  public FhirContext getFhirContext() {
    return context;
  }

  @Override
  public boolean isCodeSystemSupported(ValidationSupportContext chain, String system) {
    return covers(system);
  }

  @Override
  public CodeValidationResult validateCode(
      ValidationSupportContext chain,
      ConceptValidationOptions options,
      String system,
      String code,
      String display,
      String valueSet) {
    if (!covers(system) || code == null) {
      return null;
    }
    var error = error(system, code);
    if (error != null) {
      return unknown(IssueSeverity.ERROR, error);
    }
    var known = written.getOrDefault(system, Map.of());
    if (known.containsKey(code)) {
      return new CodeValidationResult().setCode(code).setDisplay(known.get(code));
    }
    return unknown(IssueSeverity.WARNING, text(system, code, "only its check digit was checked"))
        .setCode(code);
  }

  /** What is wrong with a code; null when nothing is, or when nothing can be known. */
  String error(String system, String code) {
    if (!covers(system) || code == null) {
      return null;
    }
    if (written.containsKey(system) && written.get(system).containsKey(code)) {
      return null;
    }
    if (!SYSTEMS.get(system).test(code)) {
      return text(system, code, "its check digit is wrong");
    }
    return onlyWritten ? text(system, code, "it is none that this server writes") : null;
  }

  private static boolean covers(String system) {
    return system != null && SYSTEMS.containsKey(system); // an immutable map refuses null
  }

  private static String text(String system, String code, String why) {
    return "Unknown code '" + system + "#" + code + "': " + why;
  }

  private static CodeValidationResult unknown(IssueSeverity severity, String message) {
    var issue =
        new CodeValidationIssue(
            message,
            severity,
            CodeValidationIssueCode.CODE_INVALID,
            CodeValidationIssueCoding.INVALID_CODE);
    return new CodeValidationResult().setSeverity(severity).setMessage(message).addIssue(issue);
  }
}
