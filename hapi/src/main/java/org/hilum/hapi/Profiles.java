package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport.IssueSeverity;
import ca.uhn.fhir.jpa.validation.JpaValidationSupportChain;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.utilities.npm.NpmPackage;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Configuration;

/**
 * Gives the validator its profiles and terminology: the US Core packages and our own files.
 *
 * <p>They stay in memory (0.7 s, about 180 MB) rather than in the database: a start cannot find them
 * half installed, and the files of the checkout are always the ones in force.
 */
@Configuration(proxyBeanMethods = false)
class Profiles {

  private static final Logger LOG = LoggerFactory.getLogger(Profiles.class);
  private static final List<String> FOLDERS =
      List.of("supplement", "codesystem", "valueset", "structuredefinition");

  Profiles(
      FhirContext context,
      JpaValidationSupportChain chain,
      @Value("${hilum.profiles}") Path folder,
      @Value("${hilum.us-core-packages}") List<String> packages)
      throws IOException {
    var begin = System.nanoTime();
    var support = new PrePopulatedValidationSupport(context);
    var count = 0;
    for (var file : packages) {
      count += addPackage(context, support, folder.resolve("us-core").resolve(file.trim()));
    }
    for (var name : FOLDERS) {
      count += addFiles(context, support, folder.resolve(name));
    }
    // First in the chain: HAPI's own copy of DICOM's codes is older than ours.
    chain.addValidationSupport(0, support);
    // Last in the chain: a code of a system that nobody knows (LOINC, SNOMED CT: they cannot be
    // shipped) is a warning, not an error. tools/code_profiles.py says why there are no fragments.
    var unknown = new UnknownCodeSystemWarningValidationSupport(context);
    unknown.setNonExistentCodeSystemSeverity(IssueSeverity.WARNING);
    chain.addValidationSupport(unknown);
    LOG.info("{} conformance resources in {} ms", count, (System.nanoTime() - begin) / 1_000_000);
  }

  private static int addPackage(FhirContext context, PrePopulatedValidationSupport support, Path file)
      throws IOException {
    try (var stream = Files.newInputStream(file)) {
      var npm = NpmPackage.fromPackage(stream);
      var names = npm.listResources("StructureDefinition", "ValueSet", "CodeSystem");
      for (var name : names) {
        try (var resource = npm.loadResource(name)) {
          support.addResource(context.newJsonParser().parseResource(resource));
        }
      }
      return names.size();
    }
  }

  private static int addFiles(FhirContext context, PrePopulatedValidationSupport support, Path folder)
      throws IOException {
    var files = jsonFiles(folder);
    for (var file : files) {
      support.addResource(context.newJsonParser().parseResource(Files.readString(file)));
    }
    return files.size();
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
