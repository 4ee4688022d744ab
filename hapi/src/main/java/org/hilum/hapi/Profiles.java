package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport.IssueSeverity;
import ca.uhn.fhir.interceptor.api.IInterceptorService;
import ca.uhn.fhir.jpa.validation.JpaValidationSupportChain;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Configuration;

/** Gives the server's validator its profiles and terminology. */
@Configuration(proxyBeanMethods = false)
class Profiles {

  private static final Logger LOG = LoggerFactory.getLogger(Profiles.class);

  Profiles(
      FhirContext context,
      JpaValidationSupportChain chain,
      IInterceptorService interceptors,
      @Value("${hilum.profiles}") Path folder,
      @Value("${hilum.us-core-packages}") List<String> packages)
      throws IOException {
    var begin = System.nanoTime();
    var files = ConformanceFiles.read(context, folder, packages);
    // First in the chain: HAPI's own copy of DICOM's codes is older than ours.
    chain.addValidationSupport(0, files.resources());
    var rules = files.rules(false);
    chain.addValidationSupport(1, rules);
    interceptors.registerInterceptor(new CodeCheck(context, rules));
    chain.addValidationSupport(unknownCodesWarn(context));
    LOG.info(
        "{} conformance resources in {} ms",
        files.count(),
        (System.nanoTime() - begin) / 1_000_000);
  }

  /**
   * The end of a chain: a code of a system that nobody knows is a warning, not an error.
   *
   * <p>Most codes of LOINC and SNOMED CT are such ones: the systems cannot be shipped.
   */
  static UnknownCodeSystemWarningValidationSupport unknownCodesWarn(FhirContext context) {
    var unknown = new UnknownCodeSystemWarningValidationSupport(context);
    unknown.setNonExistentCodeSystemSeverity(IssueSeverity.WARNING);
    return unknown;
  }
}
