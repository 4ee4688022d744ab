package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.r4.model.ValueSet;
import org.hl7.fhir.utilities.npm.NpmPackage;

/**
 * The profiles and terminology of the folder `profiles/`: the US Core packages and our own files.
 *
 * <p>They stay in memory (0.7 s, about 180 MB) rather than in the database: a start cannot find them
 * half installed, and the files of the checkout are always the ones in force.
 */
final class ConformanceFiles {

  private static final List<String> FOLDERS =
      List.of("supplement", "codesystem", "valueset", "structuredefinition");
  private static final String WRITTEN = "ValueSet-written-";

  private final FhirContext context;
  private final PrePopulatedValidationSupport resources;
  private final List<ValueSet> fragments = new ArrayList<>();
  private int count;

  private ConformanceFiles(FhirContext context) {
    this.context = context;
    this.resources = new PrePopulatedValidationSupport(context);
  }

  /**
   * Reads everything.
   *
   * @param packages file names in `us-core/`
   */
  static ConformanceFiles read(FhirContext context, Path folder, List<String> packages)
      throws IOException {
    var files = new ConformanceFiles(context);
    for (var file : packages) {
      files.addPackage(folder.resolve("us-core").resolve(file.trim()));
    }
    for (var name : FOLDERS) {
      for (var file : jsonFiles(folder.resolve(name))) {
        files.add(file);
      }
    }
    return files;
  }

  /** The profiles, value sets and code systems. */
  PrePopulatedValidationSupport resources() {
    return resources;
  }

  /**
   * What is known of the codes of systems that cannot be shipped.
   *
   * @param onlyWritten whether a code of them that Hilum never writes is an error
   */
  CodeRules rules(boolean onlyWritten) {
    return new CodeRules(context, fragments, onlyWritten);
  }

  int count() {
    return count;
  }

  private void addPackage(Path file) throws IOException {
    try (var stream = Files.newInputStream(file)) {
      var npm = NpmPackage.fromPackage(stream);
      for (var name : npm.listResources("StructureDefinition", "ValueSet", "CodeSystem")) {
        try (var resource = npm.loadResource(name)) {
          resources.addResource(context.newJsonParser().parseResource(resource));
          count++;
        }
      }
    }
  }

  private void add(Path file) throws IOException {
    var resource = context.newJsonParser().parseResource(Files.readString(file));
    resources.addResource(resource);
    count++;
    if (resource instanceof ValueSet valueSet
        && file.getFileName().toString().startsWith(WRITTEN)) {
      fragments.add(valueSet);
    }
  }

  /** The JSON files of a folder in the order of their names; none when there is no such folder. */
  static List<Path> jsonFiles(Path folder) throws IOException {
    if (!Files.isDirectory(folder)) {
      return List.of();
    }
    try (var entries = Files.list(folder)) {
      return entries.filter(path -> path.toString().endsWith(".json")).sorted().toList();
    }
  }
}
