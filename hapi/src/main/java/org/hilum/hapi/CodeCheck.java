package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.interceptor.api.Hook;
import ca.uhn.fhir.interceptor.api.Interceptor;
import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.parser.DataFormatException;
import ca.uhn.fhir.validation.IValidationContext;
import ca.uhn.fhir.validation.IValidatorModule;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationResult;
import java.util.ArrayList;
import java.util.List;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Coding;

/**
 * Looks at every Coding of a resource by the {@link CodeRules}.
 *
 * <p>HAPI's own validator asks about a code only where the binding's value set lets it: a wrong LOINC
 * code in Observation.code, bound to all of LOINC, is a warning there like every right one.
 */
@Interceptor
public final class CodeCheck implements IValidatorModule {

  private final FhirContext context;
  private final CodeRules rules;

  CodeCheck(FhirContext context, CodeRules rules) {
    this.context = context;
    this.rules = rules;
  }

  @Override
  public void validateResource(IValidationContext<IBaseResource> validation) {
    errors(validation.getResource()).forEach(validation::addValidationMessage);
  }

  /** The server's `$validate`: our errors after those of its own validator. */
  @Hook(Pointcut.VALIDATION_COMPLETED)
  public ValidationResult completed(IBaseResource resource, String text, ValidationResult result) {
    var errors = errors(resource == null ? parsed(text) : resource);
    if (errors.isEmpty()) {
      return null; // the result stays as it is
    }
    var all = new ArrayList<>(result.getMessages());
    all.addAll(errors);
    return new ValidationResult(result.getContext(), all);
  }

  private IBaseResource parsed(String text) {
    try {
      return context.newJsonParser().parseResource(text);
    } catch (DataFormatException error) {
      return null; // the validator has said so already
    }
  }

  private List<SingleValidationMessage> errors(IBaseResource resource) {
    if (resource == null) {
      return List.of();
    }
    var found = context.newTerser().getAllPopulatedChildElementsOfType(resource, Coding.class);
    return found.stream()
        .map(one -> rules.error(one.getSystem(), one.getCode()))
        .filter(one -> one != null)
        .distinct()
        .map(message -> error(resource, message))
        .toList();
  }

  private static SingleValidationMessage error(IBaseResource resource, String text) {
    var message = new SingleValidationMessage();
    message.setSeverity(ResultSeverityEnum.ERROR);
    message.setLocationString(resource.fhirType());
    message.setMessage(text);
    return message;
  }
}
