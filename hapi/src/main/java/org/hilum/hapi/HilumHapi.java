package org.hilum.hapi;

import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.jpa.subscription.match.config.SubscriptionProcessorConfig;
import ca.uhn.fhir.jpa.subscription.submit.config.SubscriptionSubmitterConfig;
import ca.uhn.fhir.jpa.topic.SubscriptionTopicConfig;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.autoconfigure.ImportAutoConfiguration;
import org.springframework.boot.autoconfigure.context.PropertyPlaceholderAutoConfiguration;
import org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration;
import org.springframework.boot.autoconfigure.web.servlet.ServletWebServerFactoryAutoConfiguration;
import org.springframework.context.annotation.Import;

/**
 * Hilum's FHIR R4 store: HAPI FHIR JPA and Tomcat on PostgreSQL, for Hilum's own processes only.
 *
 * <p>The auto-configurations are listed one by one: Spring Boot's full set costs start-up time and
 * brings beans that collide with HAPI's. The order of HAPI's configurations does not matter.
 */
@SpringBootConfiguration(proxyBeanMethods = false)
@ImportAutoConfiguration({
  PropertyPlaceholderAutoConfiguration.class,
  DataSourceAutoConfiguration.class,
  ServletWebServerFactoryAutoConfiguration.class
})
@Import({
  JpaR4Config.class,
  JpaBatch2Config.class,
  Batch2JobsConfig.class,
  SubscriptionSubmitterConfig.class,
  SubscriptionProcessorConfig.class,
  SubscriptionChannelConfig.class,
  SubscriptionTopicConfig.class,
  StorageConfig.class,
  DeliveryConfig.class,
  HttpConfig.class,
  Coverage.class,
  Profiles.class,
  SearchParameters.class
})
public class HilumHapi {

  /** Starts the server; ends with status 2 when the key that grants are checked with is missing. */
  public static void main(String[] args) {
    if (GrantFilter.verifierFromEnvironment().isEmpty()) {
      System.err.println(
          "hilum-hapi: the environment variable " + GrantFilter.KEY_VARIABLE
              + " must hold the public key (JWK) of Hilum's grants; not starting without it");
      System.exit(2);
    }
    if (SeededFault.refused()) {
      System.err.println("hilum-hapi: " + SeededFault.VARIABLE + " is for tests of the tests; not starting with it");
      System.exit(2);
    }
    new SpringApplication(HilumHapi.class).run(args);
  }
}
