package org.hilum.hapi;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.jpa.packages.IPackageInstallerSvc;
import ca.uhn.fhir.jpa.packages.PackageInstallationSpec;
import ca.uhn.fhir.jpa.packages.PackageInstallationSpec.InstallModeEnum;
import ca.uhn.fhir.rest.api.server.SystemRequestDetails;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import ca.uhn.fhir.util.VersionUtil;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import javax.sql.DataSource;
import org.hl7.fhir.r4.model.SearchParameter;
import org.hl7.fhir.utilities.npm.NpmPackage;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.ApplicationArguments;
import org.springframework.boot.ApplicationRunner;
import org.springframework.context.annotation.Configuration;
import org.springframework.jdbc.core.JdbcTemplate;

/**
 * Installs the search parameters of US Core and our own, once for each content of their files.
 *
 * <p>The database remembers what was installed (table hilum_prepared): the installation takes 5 to
 * 60 s and would otherwise be repeated at every start. The same row tells the Python side that the
 * tables are there, so that it may start the server with ddl=none.
 */
@Configuration(proxyBeanMethods = false)
class SearchParameters implements ApplicationRunner {

  private static final Logger LOG = LoggerFactory.getLogger(SearchParameters.class);
  private static final String TABLE =
      "create table if not exists hilum_prepared ("
          + "one boolean primary key default true check (one), search_parameters text not null, hapi text not null)";
  private static final String REMEMBER =
      "insert into hilum_prepared (search_parameters, hapi) values (?, ?) on conflict (one) do update"
          + " set search_parameters = excluded.search_parameters, hapi = excluded.hapi";

  private final IPackageInstallerSvc installer;
  private final DaoRegistry daos;
  private final ISearchParamRegistry registry;
  private final FhirContext context;
  private final JdbcTemplate database;
  private final List<Path> packages = new ArrayList<>();
  private final List<Path> ours;

  SearchParameters(
      IPackageInstallerSvc installer,
      DaoRegistry daos,
      ISearchParamRegistry registry,
      FhirContext context,
      DataSource dataSource,
      @Value("${hilum.profiles}") Path folder,
      @Value("${hilum.us-core-packages}") List<String> packageNames)
      throws IOException {
    this.installer = installer;
    this.daos = daos;
    this.registry = registry;
    this.context = context;
    this.database = new JdbcTemplate(dataSource);
    packageNames.forEach(name -> packages.add(folder.resolve("us-core").resolve(name.trim())));
    this.ours = ConformanceFiles.jsonFiles(folder.resolve("searchparameter"));
  }

  @Override
  public void run(ApplicationArguments arguments) throws IOException {
    var fingerprint = fingerprint();
    database.execute(TABLE);
    var installed = database.queryForList("select search_parameters from hilum_prepared", String.class);
    if (installed.contains(fingerprint)) {
      return;
    }
    var begin = System.nanoTime();
    for (var file : packages) {
      installPackage(Files.readAllBytes(file));
    }
    for (var file : ours) {
      store(context.newJsonParser().parseResource(SearchParameter.class, Files.readString(file)));
    }
    registry.forceRefresh();
    database.update(REMEMBER, fingerprint, VersionUtil.getVersion());
    LOG.info("search parameters installed in {} ms", (System.nanoTime() - begin) / 1_000_000);
  }

  private void installPackage(byte[] contents) throws IOException {
    var npm = NpmPackage.fromPackage(new ByteArrayInputStream(contents));
    var spec =
        new PackageInstallationSpec()
            .setName(npm.name())
            .setVersion(npm.version())
            .setPackageContents(contents)
            .setFetchDependencies(false)
            .setInstallMode(InstallModeEnum.STORE_AND_INSTALL);
    spec.setInstallResourceTypes(List.of("SearchParameter"));
    installer.install(spec);
  }

  private void store(SearchParameter parameter) {
    daos.getResourceDao(SearchParameter.class).update(parameter, new SystemRequestDetails());
  }

  /** Of everything that decides which search parameters there are. */
  private String fingerprint() throws IOException {
    var digest = Digests.sha256();
    digest.update(VersionUtil.getVersion().getBytes(StandardCharsets.UTF_8));
    for (var file : packages) {
      digest.update(Files.readAllBytes(file));
    }
    for (var file : ours) {
      digest.update(Files.readAllBytes(file));
    }
    return HexFormat.of().formatHex(digest.digest());
  }
}
