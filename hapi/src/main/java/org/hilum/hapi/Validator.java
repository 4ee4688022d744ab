package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.parser.DataFormatException;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ch.qos.logback.classic.Level;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The validator without the server, for one version of US Core: a process of its own, so that the
 * running server holds one version only.
 *
 * <p>Reads one resource per line from standard input; answers each with one line, the JSON list of
 * its issues (severity, location, message).
 */
public final class Validator {

  private static final String USAGE = "usage: Validator PROFILES PACKAGE.tgz any-code|written-codes";

  private Validator() {}

  /** Arguments: folder of profiles, file name of the US Core package, which codes are allowed. */
  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 3 || !List.of("any-code", "written-codes").contains(arguments[2])) {
      System.err.println(USAGE);
      System.exit(2);
    }
    quietLog();
    var answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err); // what a library prints must not mix with the answers
    var validator =
        validator(Path.of(arguments[0]), arguments[1], arguments[2].equals("written-codes"));
    var mapper = new ObjectMapper();
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (var line = input.readLine(); line != null; line = input.readLine()) {
      answers.println(mapper.writeValueAsString(issues(validator, line)));
    }
  }

  private static void quietLog() {
    var root = LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME);
    ((ch.qos.logback.classic.Logger) root).setLevel(Level.ERROR);
  }

  private static FhirValidator validator(Path folder, String usCore, boolean onlyWrittenCodes)
      throws IOException {
    var context = FhirContext.forR4Cached();
    var files = ConformanceFiles.read(context, folder, List.of(usCore), onlyWrittenCodes);
    var chain =
        new ValidationSupportChain(
            files.resources(),
            files.rules(),
            new DefaultProfileValidationSupport(context),
            new SnapshotGeneratingValidationSupport(context),
            new InMemoryTerminologyServerValidationSupport(context),
            new CommonCodeSystemsTerminologyService(context),
            Profiles.unknownCodesWarn(context));
    var module = new FhirInstanceValidator(chain);
    module.setAnyExtensionsAllowed(true);
    module.setAssumeValidRestReferences(true);
    return context.newValidator().registerValidatorModule(module);
  }

  private static List<Map<String, String>> issues(FhirValidator validator, String resource) {
    try {
      return validator.validateWithResult(resource).getMessages().stream()
          .map(Validator::issue)
          .toList();
    } catch (DataFormatException error) {
      return List.of(issue(ResultSeverityEnum.FATAL, "", error.getMessage()));
    }
  }

  private static Map<String, String> issue(SingleValidationMessage message) {
    return issue(message.getSeverity(), message.getLocationString(), message.getMessage());
  }

  private static Map<String, String> issue(
      ResultSeverityEnum severity, String location, String message) {
    return Map.of(
        "severity", severity.getCode(),
        "location", location == null ? "" : location,
        "message", message == null ? "" : message);
  }
}
