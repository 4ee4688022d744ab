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
 * <p>Reads lines of `any-code RESOURCE` or `written-codes RESOURCE` from standard input; answers
 * each with one line, the JSON list of its issues (severity, location, message).
 */
public final class Validator {

  private static final String ANY_CODE = "any-code ";
  private static final String WRITTEN_CODES = "written-codes ";

  private final FhirValidator anyCode;
  private final FhirValidator writtenCodes;

  private Validator(Path folder, String usCore) throws IOException {
    var context = FhirContext.forR4Cached();
    var files = ConformanceFiles.read(context, folder, List.of(usCore));
    this.anyCode = validator(context, files, false);
    this.writtenCodes = validator(context, files, true);
  }

  /** Arguments: folder of profiles, file name of the US Core package. */
  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 2) {
      System.err.println("usage: Validator PROFILES PACKAGE.tgz");
      System.exit(2);
    }
    quietLog();
    var answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err); // what a library prints must not mix with the answers
    var validator = new Validator(Path.of(arguments[0]), arguments[1]);
    var mapper = new ObjectMapper();
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (var line = input.readLine(); line != null; line = input.readLine()) {
      answers.println(mapper.writeValueAsString(validator.answer(line)));
    }
  }

  private List<Map<String, String>> answer(String line) {
    if (line.startsWith(ANY_CODE)) {
      return issues(anyCode, line.substring(ANY_CODE.length()));
    }
    if (line.startsWith(WRITTEN_CODES)) {
      return issues(writtenCodes, line.substring(WRITTEN_CODES.length()));
    }
    return List.of(issue(ResultSeverityEnum.FATAL, "", "the line begins with no known mode"));
  }

  private static void quietLog() {
    var root = LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME);
    ((ch.qos.logback.classic.Logger) root).setLevel(Level.ERROR);
  }

  private static FhirValidator validator(
      FhirContext context, ConformanceFiles files, boolean onlyWrittenCodes) {
    var rules = files.rules(onlyWrittenCodes);
    var chain =
        new ValidationSupportChain(
            files.resources(),
            rules,
            new DefaultProfileValidationSupport(context),
            new SnapshotGeneratingValidationSupport(context),
            new InMemoryTerminologyServerValidationSupport(context),
            new CommonCodeSystemsTerminologyService(context),
            Profiles.unknownCodesWarn(context));
    var module = new FhirInstanceValidator(chain);
    module.setAnyExtensionsAllowed(true);
    module.setAssumeValidRestReferences(true);
    return context
        .newValidator()
        .registerValidatorModule(module)
        .registerValidatorModule(new CodeCheck(context, rules));
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
