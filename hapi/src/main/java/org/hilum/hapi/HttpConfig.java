package org.hilum.hapi;

import ca.uhn.fhir.batch2.jobs.bulkmodify.reindex.ReindexProvider;
import ca.uhn.fhir.batch2.jobs.export.BulkDataExportProvider;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.binary.provider.BinaryAccessProvider;
import ca.uhn.fhir.jpa.interceptor.UserRequestRetryVersionConflictsInterceptor;
import ca.uhn.fhir.jpa.interceptor.validation.RepositoryValidatingInterceptor;
import ca.uhn.fhir.jpa.interceptor.validation.RepositoryValidatingRuleBuilder;
import ca.uhn.fhir.jpa.provider.IJpaSystemProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.provider.SubscriptionTriggeringProvider;
import ca.uhn.fhir.jpa.provider.ValueSetOperationProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.server.HardcodedServerAddressStrategy;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.context.event.ApplicationReadyEvent;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.boot.web.servlet.ServletRegistrationBean;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.event.EventListener;

/** What is served over HTTP: the door, the FHIR servlet and its operations. */
@Configuration(proxyBeanMethods = false)
class HttpConfig {

  private static final int PAGE = 50;
  private static final int LARGEST_PAGE = 1000;

  private final AtomicBoolean ready = new AtomicBoolean();

  /** Comes after the runners, so that "ready" includes the search parameters of a first start. */
  @EventListener(ApplicationReadyEvent.class)
  void becomeReady() {
    ready.set(true);
  }

  @Bean
  ServletRegistrationBean<Health> health() {
    return new ServletRegistrationBean<>(new Health(ready::get), Health.PATH);
  }

  /** Before every servlet. (Tomcat runs filters only for paths that some servlet is mapped to.) */
  @Bean
  FilterRegistrationBean<GrantFilter> grantFilter() {
    var verifier = GrantFilter.verifierFromEnvironment().orElseThrow();
    var registration = new FilterRegistrationBean<>(new GrantFilter(verifier));
    registration.addUrlPatterns("/*");
    registration.setOrder(Integer.MIN_VALUE);
    return registration;
  }

  @Bean
  ServletRegistrationBean<RestfulServer> fhirServlet(RestfulServer server) {
    var registration = new ServletRegistrationBean<>(server, "/fhir/*");
    registration.setLoadOnStartup(1);
    return registration;
  }

  @Bean
  DatabaseBackedPagingProvider pagingProvider() {
    var paging = new DatabaseBackedPagingProvider();
    paging.setDefaultPageSize(PAGE);
    paging.setMaximumPageSize(LARGEST_PAGE);
    return paging;
  }

  /** Patient/{id}/$everything, $validate, $meta and the like come with the resource providers. */
  @Bean
  RestfulServer restfulServer(
      IFhirSystemDao<?, ?> systemDao,
      IJpaSystemProvider systemProvider,
      ResourceProviderFactory resources,
      BulkDataExportProvider bulkExport,
      ValueSetOperationProvider valueSets,
      ReindexProvider reindex,
      BinaryAccessProvider binaries,
      SubscriptionTriggeringProvider triggering,
      JpaStorageSettings storage,
      ISearchParamRegistry searchParameters,
      IValidationSupport validation,
      DatabaseBackedPagingProvider paging,
      Coverage coverage,
      DaoRegistry daos,
      ObjectProvider<RepositoryValidatingRuleBuilder> rules,
      @Value("${hilum.public-base-url}") String publicBaseUrl,
      @Value("${hilum.validate-writes}") List<String> validatedTypes) {
    var context = systemDao.getContext();
    var server = new QuietServer(context);
    server.registerProviders(resources.createProviders());
    server.registerProviders(systemProvider, bulkExport, valueSets, reindex, binaries, triggering);
    var capabilities =
        new JpaCapabilityStatementProvider(server, systemDao, storage, searchParameters, validation);
    capabilities.setImplementationDescription("Hilum FHIR store");
    server.setServerConformanceProvider(capabilities);
    server.setPagingProvider(paging);
    server.setDefaultResponseEncoding(EncodingEnum.JSON);
    if (!publicBaseUrl.isBlank()) {
      server.setServerAddressStrategy(new HardcodedServerAddressStrategy(publicBaseUrl));
    }
    server.registerInterceptor(new GrantedView(coverage, daos));
    server.registerInterceptor(new GrantRules(coverage));
    server.registerInterceptor(new UserRequestRetryVersionConflictsInterceptor());
    if (!validatedTypes.isEmpty()) {
      var builder = rules.getObject();
      validatedTypes.forEach(
          type -> builder.forResourcesOfType(type).requireValidationToDeclaredProfiles());
      server.registerInterceptor(new RepositoryValidatingInterceptor(context, builder.build()));
    }
    return server;
  }

  /** HAPI's servlet without its X-Powered-By header, which names the exact version to attackers. */
  private static final class QuietServer extends RestfulServer {

    QuietServer(FhirContext context) {
      super(context);
    }

    @Override
    protected String createPoweredByHeader() {
      return "";
    }
  }
}
